"""docs/options.md: the whisper command's own help and ours, side by side.

python -m tests.docs.options            # writes the page
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

from transcription_runner import arguments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"

#: Why a default is another one here, or the same word means something else.
DIFFERENT = {
    "--device": "found out when the model is loaded; the variable `DEVICE` comes first",
    "--verbose": "in a TranscriptionJob's pod False: its log is nobody's terminal",
    "--model": "`turbo` is large-v3 here, as in this project's predecessor; `large-v3-turbo` is OpenAI's",
    "--model_dir": "a Hugging Face cache in place of a folder of `.pt` files",
    "--output_format": "also a list: `json,srt`",
    "--language": "left out or `auto`: detected; small letters do as well",
    "--hallucination_silence_threshold": "without `--word_timestamps True` an error, there without effect",
    "--fp16": "a CPU computes in float32 without a warning",
    "--clip_timestamps": "clips out of order, overlapping or of no length are an error",
}

_MACHINES = "cuda where there is one, else cpu"
_FEW = 9

_HEAD = """# Options, side by side

What the `whisper` command of openai-whisper {version} says of each of its options in its own help, and what
`transcription-runner` says. Options may be abbreviated as there (`--lang`); those that whisper does not have must be
written out. Made by `python -m tests.docs.options`; every other difference is in [differences.md](differences.md).

"""


def whispers() -> argparse.ArgumentParser:
    """The whisper command's own parser."""
    import whisper.transcribe  # type: ignore[import-untyped]  # noqa: F401  # the name is a function's, too

    class Found(Exception):
        pass

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            sys.modules["whisper.transcribe"].cli()
        except Found as found:
            parser: argparse.ArgumentParser = found.args[0]
    return parser


def by_name(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """A parser's options and positional arguments by their long names."""
    return {_name(action): action for action in parser._actions}


def different_defaults() -> list[str]:
    """The options whose defaults are not the same on any machine."""
    theirs, ours = by_name(whispers()), by_name(arguments.transcription_parser({}))
    return [name for name in theirs if name != "--help" and theirs[name].default != ours[name].default]


def page() -> str:
    """The whole page."""
    from importlib.metadata import version

    theirs, ours = by_name(whispers()), by_name(arguments.transcription_parser({}))
    lines = [_HEAD.format(version=version("openai-whisper"))]
    lines += ["| option | whisper | transcription-runner | what differs |\n", "|---|---|---|---|\n"]
    for name, action in theirs.items():
        note = DIFFERENT.get(name, "")
        lines.append(f"| {_shown(action)} | {_cell(name, action)} | {_cell(name, ours[name])} | {note} |\n")
    lines += ["\n## Only here\n\n", "| option | transcription-runner |\n", "|---|---|\n"]
    lines += [f"| {_shown(ours[name])} | {_cell(name, ours[name])} |\n" for name in ours if name not in theirs]
    return "".join(lines)


def _name(action: argparse.Action) -> str:
    return next((each for each in action.option_strings if each.startswith("--")), action.dest.upper())


def _shown(action: argparse.Action) -> str:
    return ", ".join(f"`{name}`" for name in action.option_strings) or f"`{_name(action)}`"


def _cell(name: str, action: argparse.Action) -> str:
    """Help, choices and default, in a table's cell."""
    text = _plain(action.help or "").rstrip(".")
    if not action.option_strings or action.nargs == 0:
        return text
    choices = list(map(str, action.choices or ()))
    if 0 < len(choices) < _FEW:
        text += f"; one of {', '.join(choices)}"
    # Theirs is what the machine has.
    default = _MACHINES if name == "--device" and action.default in ("cuda", "cpu") else action.default
    return f"{text}. Default: `{default}`"


def _plain(text: str) -> str:
    for sign, written in (("|", "\\|"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
