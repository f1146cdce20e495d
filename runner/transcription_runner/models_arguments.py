"""The command line of `transcription-runner models`."""

from __future__ import annotations

import argparse

from transcription_runner.arguments import Parser
from transcription_runner.backoff import Patience

COMMANDS = {
    "list": "the models in the cache",
    "download": "bring models into the cache, verified; resumes; quick where one is already",
    "verify": "compare every file of a model with its hash",
    "remove": "remove models: their own files, and nobody else's",
    "du": "the bytes that each model takes, those of unfinished downloads, and what is free on the volume",
}


def models_parser() -> Parser:
    """The parser of `transcription-runner models …`."""
    parser = Parser(
        prog="transcription-runner models",
        description="The models in a Hugging Face cache.",
        epilog="Exit codes: 0; 64 usage; 66 no such model; 69 origin unreachable; 74 the volume cannot be written; "
        "75 temporary; 77 permission; 80 a model is corrupt. With several models the first failure's.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS), parser_class=Parser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name in ("download", "verify", "remove"):
            _add_names(command, name)
        command.add_argument("--model_dir", help="the cache (default: HF_HUB_CACHE, HF_HOME)")
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_names(command: argparse.ArgumentParser, name: str) -> None:
    what = {
        "download": "OWNER/REPO[@REVISION], a short name, or the URL of a folder in an object store (s3://bucket/folder)",
        "verify": "OWNER/REPO[@REVISION], a short name, or the path of a model's folder",
        "remove": "OWNER/REPO[@REVISION], or a short name",
    }[name]
    command.add_argument("names", nargs="+" if name == "download" else "*", metavar="MODEL", help=what)
    command.add_argument("--revision", help="branch, tag or commit (default: main)")
    if name == "download":
        command.add_argument("--name", help="what to call the model of a URL: whispermodel/NAME")
        command.add_argument(
            "--refresh", action="store_true", help="ask the Hub or the store even if the model is here"
        )
        command.add_argument(
            "--stall_timeout",
            type=_seconds,
            default=Patience().stall_seconds,
            metavar="SECONDS",
            help="without a byte for so long, the connection is given up and another one tried (default: %(default)g)",
        )
    else:
        command.add_argument("--all", action="store_true", help="every model in the cache")
    if name == "remove":
        command.add_argument("--missing_ok", action="store_true", help="a model that is not there is no failure")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value
