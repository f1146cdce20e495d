"""`transcription-operator run`: the operator's command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from importlib import metadata
from pathlib import Path

from transcription_operator import logs, settings
from transcription_operator.errors import SettingsError

_USAGE_ERROR = 64


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="transcription-operator", description=__doc__)
    version = metadata.version("transcription-operator")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="watch TranscriptionJobs and WhisperModels, and run them")
    run.add_argument("--config", type=Path, default=settings.DEFAULT_PATH, help="settings file (default: %(default)s)")
    run.add_argument(
        "--kubeconfig", help="how to reach the API server (default: the pod's account, else the user's kubeconfig)"
    )
    # The two variables are the chart's way.
    run.add_argument(
        "--log-format", choices=("json", "text"), default=os.environ.get("TRANSCRIPTION_LOG_FORMAT") or "json"
    )
    run.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default=(os.environ.get("TRANSCRIPTION_LOG_LEVEL") or "info").lower(),
    )
    run.add_argument("--health-port", type=int, default=8080, help="of probes and metrics (default: %(default)s)")
    run.add_argument("--workers", type=int, default=4, help="resources worked on at once (default: %(default)s)")
    run.add_argument(
        "--sweep-interval", type=float, default=300.0, help="seconds between passes over everything (%(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logs.configure(arguments.log_format, arguments.log_level)
    try:
        loaded = settings.load(arguments.config)
    except SettingsError as error:
        print(f"transcription-operator: {error}", file=sys.stderr)
        return _USAGE_ERROR
    # Only now: `--version` and a settings error need neither kopf nor the client.
    from transcription_operator import runtime

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runtime.run(
        loaded,
        runtime.Options(
            kubeconfig=arguments.kubeconfig,
            health_port=arguments.health_port,
            workers=arguments.workers,
            sweep_interval=arguments.sweep_interval,
        ),
        stop,
    )
    return 0
