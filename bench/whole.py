"""Whole runs, from files to text, of a real architecture with random weights: for a GPU without weights.

    python -m bench.whole large-v3 talk.opus [--copies 4] [--device cuda] [--batch-sizes 32 64 128] [--report]

Random weights never end a text, so each program is told how many tokens to write: `--tokens` for every 30 s of speech,
and where a program's windows overlap or leave room, as many more or fewer in each that all write the same in all (the
pipeline half as many again: a third of each of its windows is its neighbours'). Speech is what Silero VAD finds in the
file; ours and faster-whisper's batches look for it themselves, and that is part of the run. The windows are counted in
a run with few tokens each, which also warms the program up. All read the same WAV files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import cublas, machine, report
from bench.limit import SIZES, WINDOW
from bench.programs import samples
from bench.report import table
from bench.synthetic import MISSING, converted, least_of, pipeline_of, spoken_language
from bench.worker import WorkerError, call, gpu_megabytes, limit_threads, peak_megabytes

#: Tokens a window in the run that counts the windows; CTranslate2 can do no fewer.
_WARM = 8
#: Of a chunk of the pipeline, what is not its neighbours'.
_STEP = 20.0


@dataclass(frozen=True)
class Whole:
    """What a program is to be run on. speech: seconds of it in one file."""

    folder: Path
    size: str
    files: tuple[str, ...]
    speech: float
    tokens: int
    batch_size: int
    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Took:
    """What a run took. windows: in all files; each: tokens in a window; stages: where time went, if that is known."""

    seconds: float = 0.0
    load_seconds: float = 0.0
    windows: int = 0
    each: int = 0
    megabytes: float = 0.0
    gpu_megabytes: float = 0.0
    stages: str = ""
    trouble: str | None = None


#: Transcribes the files with so many tokens a window; returns how many windows there were.
Transcribe = Callable[[int], int]


# ---------------------------------------------------------------------------------------------------------------------
# Ours: the one place that knows the runner's inside.


def _ours(run: Whole) -> Transcribe:
    from transcription_runner import transcribe
    from transcription_runner.engine import load_engine
    from transcription_runner.lane import Lane, Task
    from transcription_runner.options import TranscribeOptions
    from transcription_runner.windows import Decode

    engine = load_engine(run.folder, device=run.device, compute_type=run.precision, threads=run.threads)  # type: ignore[arg-type]
    first_time = engine.tokenizer.timestamp_begin
    # No end, and no time but the first: what is left of a window after its last time would be decoded again.
    silent = (engine.tokenizer.eot, *range(first_time + 1, engine.network.config.vocab_size))
    windows = 0
    tokens = 0

    class Fixed(Lane):
        def _method(self, temperature: float) -> Any:
            method = super()._method(temperature)
            return replace(method, suppress=tuple(sorted({*method.suppress, *silent})), sample_len=tokens)

        def give(self, task: Task) -> None:
            nonlocal windows
            windows += isinstance(task.request, Decode)
            super().give(task)

    transcribe.Lane = Fixed  # type: ignore[misc]
    options = TranscribeOptions(
        mode="batched", language="en", beam_size=None, temperature=(0.0,), batch_size=run.batch_size
    )

    def again(count: int) -> int:
        nonlocal windows, tokens
        windows, tokens = 0, count
        for outcome in transcribe.transcribe_many(engine, map(Path, run.files), options):
            if outcome.error is not None:
                raise outcome.error
        return windows

    return again


# ---------------------------------------------------------------------------------------------------------------------
# The peers.


def _pipeline(run: Whole) -> Transcribe:
    """transformers' pipeline: chunks of 30 s, of all files in the same batches."""
    spoken = pipeline_of(run.folder, run.device, run.precision)
    language = spoken_language(run.size)

    def again(count: int) -> int:
        asked = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "num_beams": 1, **language}
        heard = ({"raw": samples(Path(file)), "sampling_rate": 16_000} for file in run.files)
        found = list(spoken(heard, batch_size=run.batch_size, generate_kwargs=asked))
        if len(found) != len(run.files):
            raise RuntimeError(f"the pipeline gave {len(found)} texts of {len(run.files)} files")
        return sum(1 + max(0, math.ceil((seconds(Path(file)) - WINDOW) / _STEP)) for file in run.files)

    return again


def _faster_whisper(run: Whole) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    from bench.random_model import vocabulary

    model = WhisperModel(
        str(converted(run.folder, run.precision)),
        device=run.device,
        compute_type=run.precision,
        cpu_threads=run.threads,
    )
    batched = BatchedInferencePipeline(model)
    words = vocabulary(run.size)
    # Neither the end, nor times, at which it would cut a window's text.
    silent = [words.end, *range(words.no_timestamps + 1, SIZES[run.size].vocab_size)]

    def again(count: int) -> int:
        windows = 0
        for file in run.files:
            found, _ = batched.transcribe(
                file,
                language="en",
                batch_size=run.batch_size,
                beam_size=1,
                temperature=0.0,
                suppress_tokens=silent,
                suppress_blank=False,
                # With the prompt it is twice what is written: CTranslate2 takes half, as of Whisper's 448.
                max_new_tokens=2 * count - (4 if model.model.is_multilingual else 2),
            )
            for segment in found:
                windows += 1
                if len(segment.tokens) != count:
                    raise RuntimeError(f"faster-whisper gave {len(segment.tokens)} tokens, and not {count}")
        return windows

    return again


PROGRAMS: dict[str, Callable[[Whole], Transcribe]] = {
    "ours": _ours,
    "transformers pipeline": _pipeline,
    "faster-whisper batched": _faster_whisper,
}


# ---------------------------------------------------------------------------------------------------------------------
# Measuring.


def seconds(file: Path) -> float:
    """How long a WAV file is."""
    with wave.open(str(file)) as stream:
        return stream.getnframes() / stream.getframerate()


def tokens_each(run: Whole, windows: int, *, overlapping: bool) -> int:
    """Tokens for each window, so that all together are those of the speech: half as many again where they overlap."""
    wanted = run.tokens * run.speech * len(run.files) / WINDOW * (WINDOW / _STEP if overlapping else 1)
    return max(1, round(wanted / windows))


def measure(program: str, run: Whole) -> Took:
    """Load, count the windows and warm up, then time a run."""
    limit_threads(run.threads)
    began = time.perf_counter()
    if program == "faster-whisper batched":  # conversion is no part of loading
        try:
            converted(run.folder, run.precision)
        except ImportError as error:
            return Took(trouble=f"{MISSING} ({error.name})")
        began = time.perf_counter()
    try:
        again = PROGRAMS[program](run)
    except ImportError as error:
        return Took(trouble=f"{MISSING} ({error.name})")
    loaded = time.perf_counter()
    try:
        each = tokens_each(run, again(_WARM), overlapping=program == "transformers pipeline")
        started = time.perf_counter()
        if program == "ours":
            from transcription_runner import profile

            with profile.profiling() as found:
                windows = again(each)
            stages = found.report().table()
        else:
            windows, stages = again(each), ""
    except Exception as error:  # noqa: BLE001 - each library has its own for memory
        return Took(trouble=(str(error).splitlines() or [repr(error)])[0][:120])
    return Took(time.perf_counter() - started, loaded - began, windows, each, peak_megabytes(), gpu_megabytes(), stages)


def told(program: str, run: Whole, environ: Mapping[str, str]) -> Took:
    """The same in a process of its own."""
    given = json.dumps({**asdict(run), "folder": str(run.folder)})
    try:
        lines = call("bench.whole", ["--process", program, given], run.threads, environ)
    except WorkerError as error:
        return Took(trouble=str(error))
    return Took(**json.loads(lines[-1]))


# ---------------------------------------------------------------------------------------------------------------------
# The material.


def written(source: Path, folder: Path, copies: int) -> list[Path]:
    """A recording as WAV files of 16 kHz, all of them alike."""
    from transcription_runner.audio import SAMPLE_RATE, AudioFile

    first = folder / "0.wav"
    with wave.open(str(first), "wb") as stream:
        stream.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        for _, block in AudioFile(source).blocks():
            stream.writeframes(block.tobytes())
    others = [folder / f"{number}.wav" for number in range(1, copies)]
    for other in others:
        shutil.copyfile(first, other)
    return [first, *others]


def speech(file: Path) -> float:
    """Seconds of speech, as the runner's VAD has them."""
    from transcription_runner.audio import AudioFile
    from transcription_runner.mel import FRAMES_PER_SECOND
    from transcription_runner.options import VadOptions
    from transcription_runner.vad import SpeechDetector, speech_spans

    ear, length = SpeechDetector(), 0
    for start, block in AudioFile(file).blocks():
        ear.add(start, block)
        length = start + len(block)
    ear.finish()
    spans = speech_spans(ear.stretches, VadOptions(), length)
    return sum(end - start for start, end in spans) / FRAMES_PER_SECOND


# ---------------------------------------------------------------------------------------------------------------------
# The comparison.

HEAD = (
    *("program", "windows at once", "seconds", "× real time", "ours is faster by", "windows", "tokens a window"),
    *("share of the limit", "loading, s", "memory, MB", "GPU memory (torch), MB"),
)


def part(run: Whole, found: machine.Found, results: Sequence[tuple[str, int, Took]], duration: float, name: str) -> str:
    """The part of the report. duration: seconds of all files."""
    sizes, device = SIZES[run.size], found.machine(run.precision)
    batch_size = max(size for _, size, _ in results)
    width = 4 if run.precision == "float32" else 2
    least = least_of(sizes, device, batch_size, run.tokens, width).apart / batch_size
    floor = least * run.speech * len(run.files) / WINDOW
    best = min((took.seconds for program, _, took in results if program == "ours" and not took.trouble), default=0.0)
    rows = []
    for program, size, took in results:
        if took.trouble:
            rows.append([program, str(size), took.trouble, *[""] * (len(HEAD) - 3)])
            continue
        rows.append(
            [
                program,
                str(size),
                f"{took.seconds:.1f}",
                f"{duration / took.seconds:.0f}",
                f"{took.seconds / best:.2f}" if best else "",
                str(took.windows),
                str(took.each),
                f"{floor / took.seconds:.0%}",
                f"{took.load_seconds:.1f}",
                f"{took.megabytes:.0f}",
                f"{took.gpu_megabytes:.0f}" if took.gpu_megabytes else "",
            ]
        )
    count = f"{len(run.files)} file{'s'[: len(run.files) > 1]}"
    about = (
        f"{count} of {duration / len(run.files):.0f} s, {run.speech:.0f} s of it speech; random weights in "
        f"{run.precision}, {run.tokens} tokens for 30 s of speech, greedy. The limit for the speech alone, encoder and "
        f"decoder one after the other with {batch_size} windows at once: {floor:.1f} s."
    )
    stages = [
        f"Ours, {size} windows at once:\n\n```\n{took.stages.rstrip()}\n```"
        for program, size, took in results
        if program == "ours" and took.stages and took.seconds == best
    ]
    return "\n\n".join([f"## {name}", "\n".join(found.lines()), about, table(HEAD, rows), *stages])


def main() -> int:
    """Run what is asked for; 1 where a program that is there could not be run."""
    if sys.argv[1:2] == ["--process"]:
        program, given = sys.argv[2], json.loads(sys.argv[3])
        run = Whole(**{**given, "folder": Path(given["folder"]), "files": tuple(given["files"])})
        print(json.dumps(asdict(measure(program, run))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=sorted(SIZES))
    parser.add_argument("audio", type=Path, help="people's speech, of any format")
    parser.add_argument("--copies", type=int, default=1, help="files that it is heard as")
    parser.add_argument("--tokens", type=int, default=100, help="for every 30 s of speech")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="PROGRAM")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", choices=["float32", "float16", "bfloat16"], help="float16 on a GPU")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scratch", type=Path, help="where the model is kept from call to call")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the folder of RESULTS.md")
    asked = parser.parse_args()
    precision = asked.precision or ("float16" if asked.device == "cuda" else "float32")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.scratch or Path(scratch)) / f"random-{asked.size}"
        if not (folder / "model.safetensors").exists():
            call("bench.random_model", [asked.size, str(folder)], asked.threads)
        files = written(asked.audio, Path(scratch), asked.copies)
        run = Whole(
            *(folder, asked.size, tuple(map(str, files)), speech(files[0]), asked.tokens, 0, asked.device, precision),
            asked.threads,
        )
        environ = cublas.environment(Path(scratch) / "cublas") if asked.device == "cuda" else {}
        found = machine.find(asked.device, asked.threads)
        results = []
        for program in asked.programs:
            for size in asked.batch_sizes:
                took = told(program, replace(run, batch_size=size), environ if program.startswith("faster") else {})
                print(f"{program}, {size}: {took.trouble or f'{took.seconds:.1f} s'}", flush=True)
                results.append((program, size, took))
        duration = sum(map(seconds, files))
    name = f"{asked.size} with random weights, from {asked.copies} file{'s'[: asked.copies > 1]}"
    text = part(run, found, results, duration, name)
    print(f"\n{text}\n", flush=True)
    if asked.report:
        report.replace(asked.into / "RESULTS.md", f"whole {asked.size} {asked.device} {asked.copies}", text)
    return int(any(took.trouble and not took.trouble.startswith(MISSING) for _, _, took in results))


if __name__ == "__main__":
    sys.exit(main())
