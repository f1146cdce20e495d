"""The command line: openai-whisper's options by its names and defaults, and ours."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from transcription_runner import options as asked
from transcription_runner.cache import baked_roots, default_roots
from transcription_runner.errors import Usage
from transcription_runner.names import SHORT_NAMES, ModelName, parse_model
from transcription_runner.settings import File, Settings, runner_version
from transcription_runner.sources import STDIN, Source
from transcription_runner.writers import FORMATS, Layout

DEVICES = ("auto", "cuda", "cpu")
ENGINES = ("transformers", "openai-whisper")
COMPUTE_TYPES = ("auto", "float32", "float16", "bfloat16", "int8")
MOST_THREADS = 256
MOST_WORKERS = 64

OURS = frozenset(
    {
        *(
            "--version",
            "--adapter",
            "--engine",
            "--batch_size",
            "--output_name",
            "--output",
            "--languages",
            "--multilingual",
            "--hotwords",
            "--profile",
            "--compute_type",
            "--num_workers",
        ),
        *("--mode", "--no_vad", "--vad_threshold", "--vad_min_silence_duration_ms", "--vad_min_speech_duration_ms"),
        "--vad_speech_pad_ms",
    }
)
"""The options that the whisper command does not have."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are Usage: exit code 64, with a message that says what to do."""

    @property
    def options(self) -> list[str]:
        """Every option by its long name."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Raise Usage."""
        raise Usage(f"{message}.", hint=f"`{self.prog} --help` lists every option.")


def spelled_out(words: Sequence[str], parser: Parser) -> list[str]:
    """Words of a call with whisper's options in full: `--lang en` is `--language en`, as the whisper command has it.

    Ours are no candidates, so that an abbreviation means what it always meant there, whatever we add. Raises Usage.
    """
    known = set(parser.options)
    full: list[str] = []
    for place, word in enumerate(words):
        if word == "--":
            return [*full, *words[place:]]
        name, equals, value = word.partition("=")
        if name.startswith("--") and name not in known:
            meant = sorted(each for each in known - OURS if each.startswith(name))
            if len(meant) > 1:
                raise Usage(f"{name} could be {' or '.join(meant)}.", hint="Write it out.")
            name = meant[0] if meant else name
        full.append(f"{name}{equals}{value}")
    return full


def parse(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """The words of `transcription-runner AUDIO…`, understood. Raises Usage."""
    parser = transcription_parser(environ)
    return parser.parse_args(spelled_out(words, parser))


def flag(text: str) -> bool:
    """Whisper's way to write a truth value: `True` or `False`."""
    value = {"true": True, "false": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value


def optional_int(text: str) -> int | None:
    """A whole number, or `None`."""
    if text == "None":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor None") from None


def optional_float(text: str) -> float | None:
    """A number, or `None`."""
    if text == "None":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor None") from None


def formats(text: str) -> tuple[str, ...]:
    """A list such as `json,srt`, or `all`; each once."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("no format is named")
    chosen: list[str] = []
    for name in names:
        if name != "all" and name not in FORMATS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FORMATS)}, all")
        chosen += FORMATS if name == "all" else (name,)
    return tuple(dict.fromkeys(chosen))


def transcription_parser(environ: Mapping[str, str] = os.environ) -> Parser:
    """The parser of `transcription-runner AUDIO…`."""
    parser = Parser(
        prog="transcription-runner",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Transcribe audio with Whisper. Takes the whisper command's options, with its defaults.",
        epilog="Other commands: transcription-runner models list|download|verify|remove|du, "
        "transcription-runner prepare-folder; "
        "with INPUT_BUCKET set, KEY AUDIO [PROMPT] [LANGUAGE] (docs/migration.md). "
        "Exit codes: 0; 64 usage; 65 bad audio; 66 source or model missing; 69 source unreachable; 70 internal; 74 "
        "output failed; 75 temporary; 77 permission; 80 corrupt model cache.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("audio", nargs="+", metavar="AUDIO", help="path, - for standard input, or URL (http, https, s3, …)")
    add("--version", action="version", version=f"transcription-runner {runner_version()}")

    group = parser.add_argument_group("model and device")
    add = group.add_argument
    add("--model", default="turbo", help=f"a short name ({', '.join(SHORT_NAMES)}), OWNER/REPO[@REVISION], or a path")
    add("--model_dir", help="Hugging Face cache to read models from (default: HF_HUB_CACHE, HF_HOME)")
    add("--adapter", help="a PEFT/LoRA adapter to merge into the model: a folder, or OWNER/REPO[@REVISION]")
    add("--device", default=environ.get("DEVICE") or "auto", help="auto, cuda or cpu; default from the variable DEVICE")
    add("--fp16", type=flag, default=True, help="half precision on a GPU; of no effect on a CPU")
    add(
        "--compute_type",
        choices=COMPUTE_TYPES,
        default="auto",
        help="precision: auto is float16 on a GPU (unless --fp16 False) and float32 on a CPU; int8 and bfloat16 are "
        "faster on a CPU",
    )
    add("--threads", type=optional_int, default=0, help="CPU threads; 0 leaves it to torch")
    add("--num_workers", type=optional_int, help="processes that share the windows; one for each GPU by default")
    add("--engine", choices=ENGINES, default="transformers", help="openai-whisper is the roll-back")
    add("--batch_size", type=optional_int, help="windows decoded together; fitted to the device by default")

    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--output_dir", "-o", default=".", help="folder for the transcripts")
    add("--output_format", "-f", type=formats, default="all", help=f"{', '.join(FORMATS)}, all, or a list: json,srt")
    add("--output_name", help="name of the transcript without extension; by default the audio's")
    add("--output", help="a folder or URL (s3://bucket/prefix) that every format is copied to")
    add("--verbose", type=flag, help="print the segments and progress (default: True, in a pod False)")
    add(
        "--profile",
        action="store_true",
        default=bool(environ.get("TRANSCRIPTION_PROFILE")),
        help="say on standard error where the time went; default from the variable TRANSCRIPTION_PROFILE",
    )

    group = parser.add_argument_group("what to transcribe")
    add = group.add_argument
    add("--task", choices=("transcribe", "translate"), default="transcribe", help="translate is into English")
    add("--language", help="code or English name of the language; detected by default")
    add("--languages", help="codes that detection may choose among: en,fr")
    add("--multilingual", type=flag, default=False, help="batched mode: detect the language of each window")
    add("--clip_timestamps", default="0", help="start,end,start,end,… in seconds; the last end may be left out")
    add("--initial_prompt", help="text that the first window is conditioned on: names, spelling, style")
    add("--carry_initial_prompt", type=flag, default=False, help="give the prompt to every window")
    add("--hotwords", help="names and terms, separated by commas, that every window is told of: a glossary")
    add(
        "--condition_on_previous_text",
        type=flag,
        default=True,
        help="give each window the text before it; False makes loops rarer and the text less even",
    )
    add("--mode", choices=("sequential", "batched"), default="sequential", help="batched cuts at silences: faster")
    add("--no_vad", action="store_true", help="batched mode: do not leave silence out")
    add("--vad_threshold", type=float, default=0.5, help="probability from which a moment is speech")
    vad = asked.VadOptions()
    add("--vad_min_silence_duration_ms", type=int, default=vad.min_silence_duration_ms, help="shorter pauses are kept")
    add("--vad_min_speech_duration_ms", type=int, default=vad.min_speech_duration_ms, help="shorter sounds are dropped")
    add("--vad_speech_pad_ms", type=int, default=vad.speech_pad_ms, help="kept on both sides of speech")

    group = parser.add_argument_group("decoding")
    add = group.add_argument
    add("--temperature", type=float, default=0.0, help="of sampling")
    add(
        "--temperature_increment_on_fallback",
        type=optional_float,
        default=0.2,
        help="added when a window fails the thresholds below; None for no fallback",
    )
    add("--best_of", type=optional_int, default=5, help="samples at temperatures above 0")
    add("--beam_size", type=optional_int, default=5, help="beams at temperature 0; None decodes greedily")
    add("--patience", type=optional_float, help="of the beam search (arXiv 2204.05424); 1.0 is the usual search")
    add("--length_penalty", type=optional_float, help="alpha of arXiv 1609.08144; by default the mean over the length")
    add("--suppress_tokens", default="-1", help="token ids never to be chosen: 1,2,3; -1 means most symbols")
    add("--compression_ratio_threshold", type=optional_float, default=2.4, help="above it, a window has failed")
    add("--logprob_threshold", type=optional_float, default=-1.0, help="below this average, a window has failed")
    add(
        "--no_speech_threshold",
        type=optional_float,
        default=0.6,
        help="above it, a window that fails logprob_threshold is silence",
    )

    group = parser.add_argument_group("words and subtitles")
    add = group.add_argument
    add("--word_timestamps", type=flag, default=False, help="a start and an end for every word")
    add("--prepend_punctuations", default=asked.PREPEND_PUNCTUATIONS, help="symbols that belong to the word after")
    add("--append_punctuations", default=asked.APPEND_PUNCTUATIONS, help="symbols that belong to the word before")
    add("--hallucination_silence_threshold", type=optional_float, help="seconds of silence around a guess to leave out")
    add("--highlight_words", type=flag, default=False, help="underline each word as it is said, in srt and vtt")
    add("--max_line_width", type=optional_int, help="characters in a line of a subtitle")
    add("--max_line_count", type=optional_int, help="lines in a subtitle; needs --max_line_width")
    add("--max_words_per_line", type=optional_int, help="words in a subtitle; of no effect with --max_line_width")
    return parser


def folder_parser() -> Parser:
    """The parser of `transcription-runner prepare-folder`."""
    parser = Parser(
        prog="transcription-runner prepare-folder",
        description="Make the folder of a job's transcript (mode 755), and see that it can be written.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    return parser


def roots(model_dir: str | None, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where to look for models, the first being where one would be downloaded to."""
    return [*([Path(model_dir).expanduser()] if model_dir else default_roots(environ)), *baked_roots(environ)]


def adapter_name(text: str) -> ModelName:
    """The adapter of that name: a folder where there is one, else a repository. Raises Usage."""
    folder = Path(text).expanduser()
    if (text and folder.is_dir()) or text.startswith(("/", "./", "../", "~")):
        return ModelName(path=folder)
    if "/" not in text:
        raise Usage(f"--adapter {text!r} is no folder.", hint="Give a folder, or a repository (OWNER/REPO[@REVISION]).")
    return parse_model(text)


def temperatures(first: float, increment: float | None) -> tuple[float, ...]:
    """The ladder of temperatures up to 1.0; with the same rounding as openai-whisper's, which numpy makes.

    Raises Usage.
    """
    if increment is not None and not (math.isfinite(increment) and increment >= 0):
        raise Usage(
            f"--temperature_increment_on_fallback must be 0 or more, not {increment}.", hint="None: no fallback."
        )
    if not increment or not first <= 1.0:  # what is no number is refused with the other options
        return (first,)
    step = (first + increment) - first
    count = math.ceil((1.0 + 1e-6 - first) / increment)
    if count > 1000:
        raise Usage(f"--temperature_increment_on_fallback {increment} is too small.", hint="Use 0.1 or more, or None.")
    return tuple(first + index * step for index in range(count))


def settings(arguments: argparse.Namespace, *, warn: list[str]) -> Settings:
    """Check what argparse cannot, and put it together; warnings are added to `warn`. Raises Usage."""
    device = arguments.device
    if device not in DEVICES:
        raise Usage(f"--device {device!r} is none of {', '.join(DEVICES)}.", hint="The variable DEVICE is its default.")
    if arguments.max_line_count and not arguments.max_line_width:
        warn.append("--max_line_count has no effect without --max_line_width")
    if arguments.max_words_per_line and arguments.max_line_width:
        warn.append("--max_words_per_line has no effect with --max_line_width")
    if not arguments.word_timestamps:
        for name in ("highlight_words", "max_line_count", "max_line_width", "max_words_per_line"):
            if getattr(arguments, name):
                raise Usage(f"--{name} needs --word_timestamps True.")
    for name in ("max_line_count", "max_line_width", "max_words_per_line"):
        if (getattr(arguments, name) or 0) < 0:
            raise Usage(f"--{name} {getattr(arguments, name)} is below 0.")
    if not 0 <= (arguments.threads or 0) <= MOST_THREADS:
        raise Usage(f"--threads must lie between 0 and {MOST_THREADS}, not {arguments.threads}.")
    if arguments.num_workers is not None and not 1 <= arguments.num_workers <= MOST_WORKERS:
        raise Usage(f"--num_workers must lie between 1 and {MOST_WORKERS}, not {arguments.num_workers}.")
    chosen = formats(arguments.output_format) if isinstance(arguments.output_format, str) else arguments.output_format
    model = parse_model(arguments.model)
    return Settings(
        model=model,
        roots=roots(arguments.model_dir),
        options=transcribe_options(arguments, model, warn),
        layout=Layout(
            max_line_width=arguments.max_line_width,
            max_line_count=arguments.max_line_count,
            max_words_per_line=arguments.max_words_per_line,
            highlight_words=arguments.highlight_words,
        ),
        formats=chosen,
        output_dir=Path(arguments.output_dir),
        output=arguments.output,
        device=device,
        compute_type=arguments.compute_type if arguments.fp16 or arguments.compute_type != "auto" else "float32",
        threads=arguments.threads or None,
        num_workers=arguments.num_workers,
        engine=arguments.engine,
        adapter=adapter_name(arguments.adapter) if arguments.adapter is not None else None,
    )


def transcribe_options(arguments: argparse.Namespace, model: ModelName, warn: list[str]) -> asked.TranscribeOptions:
    """The transcription's options. Raises Usage."""
    language = arguments.language
    if model.english_only and (language or "").lower() not in ("en", "english"):
        if language is not None and language.lower() != "auto":
            warn.append(f"{model.shown} knows English only: --language {language} is ignored")
        language = "en"
    return asked.TranscribeOptions(
        mode=arguments.mode,
        task=arguments.task,
        language=language,
        multilingual=arguments.multilingual,
        languages=tuple(code.strip() for code in (arguments.languages or "").split(",") if code.strip()),
        temperature=temperatures(arguments.temperature, arguments.temperature_increment_on_fallback),
        best_of=arguments.best_of,
        beam_size=arguments.beam_size,
        patience=arguments.patience,
        length_penalty=arguments.length_penalty,
        suppress_tokens=arguments.suppress_tokens,
        initial_prompt=arguments.initial_prompt,
        carry_initial_prompt=arguments.carry_initial_prompt,
        hotwords=arguments.hotwords,
        condition_on_previous_text=arguments.condition_on_previous_text,
        compression_ratio_threshold=arguments.compression_ratio_threshold,
        logprob_threshold=arguments.logprob_threshold,
        no_speech_threshold=arguments.no_speech_threshold,
        word_timestamps=arguments.word_timestamps,
        prepend_punctuations=arguments.prepend_punctuations,
        append_punctuations=arguments.append_punctuations,
        hallucination_silence_threshold=arguments.hallucination_silence_threshold,
        clip_timestamps=arguments.clip_timestamps,
        vad=asked.VadOptions(
            enabled=not arguments.no_vad,
            threshold=arguments.vad_threshold,
            min_silence_duration_ms=arguments.vad_min_silence_duration_ms,
            min_speech_duration_ms=arguments.vad_min_speech_duration_ms,
            speech_pad_ms=arguments.vad_speech_pad_ms,
        ),
        batch_size=arguments.batch_size,
    )


def files(audio: list[str], output_name: str | None) -> list[File]:
    """The files to transcribe, each with a name of its own: `a.mp3` beside `a.wav` keeps its extension.

    Raises Usage.
    """
    if output_name is not None:
        if len(audio) > 1:
            raise Usage("--output_name names one transcript, and there are several files.", hint="Leave it out.")
        if not output_name or "/" in output_name or "\0" in output_name or output_name in (".", ".."):
            raise Usage(f"--output_name {output_name!r} is no file name.", hint="Give a name without slashes.")
    for text in audio:
        if "\0" in text or not text:
            raise Usage(f"{text!r} is no path or URL.")
    if audio.count(STDIN) > 1:
        raise Usage("Standard input (-) can be read once.")
    sources = [Source(text=text) for text in audio]
    stems = [output_name or Path(source.name).stem or source.name for source in sources]
    taken: set[str] = set()
    result = []
    for source, short in zip(sources, stems, strict=True):
        base = short if stems.count(short) == 1 else source.name
        name, number = base, 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        result.append(File(source=source, name=name))
    return result
