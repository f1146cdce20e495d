"""`transcription-runner`: the command, and the entry point of the pods."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from transcription_runner import arguments, certificates, container_job, models_cli, profile, receipt
from transcription_runner.errors import CorruptModelCache, ModelMissing, RunnerError, Temporary, Usage
from transcription_runner.job import Job, in_pod, internal
from transcription_runner.outputs import check_apart, stem
from transcription_runner.prepare import prepare_folder
from transcription_runner.printer import Printer
from transcription_runner.progress import stand_aside
from transcription_runner.redact import scrub
from transcription_runner.report import Reporter

_log = logging.getLogger("transcription_runner")


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell tells it."""
        return 128 + self.number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (sysexits; docs/contracts.md). Always leaves a receipt in a pod."""
    words = list(sys.argv[1:] if argv is None else argv)
    _configure_logging()
    try:
        with _signals():
            code = _dispatch(words)
    except SystemExit as error:  # argparse's --help and --version
        code = error.code if isinstance(error.code, int) else 0
    except RunnerError as error:
        code = _fail(error)
    except Stopped as stopped:
        code = stopped.exit_code
        _stopped(stopped)
    except BaseException as error:  # noqa: BLE001  # the last resort: whatever it is becomes a receipt and 70
        code = 130 if isinstance(error, KeyboardInterrupt) else _unforeseen(error)
    if argv is None:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End at once: Python's own end would wait for, or crash on, a thread that is loading a model.

    With torch it takes the better part of a second, too.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 120  # as Python's own end has it
    logging.shutdown()
    certificates.remove_joined()
    os._exit(code)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["prepare-folder"]:
        prepare_folder(arguments.folder_parser().parse_args(words[1:]).folder)
        return 0
    if words[:1] == ["models"]:
        return models_cli.run(words[1:])
    if container_job.wanted(words):
        return _container_job(words)
    return _transcribe(words)


def _transcribe(words: list[str]) -> int:
    parsed = arguments.parse(words)
    if not parsed.profile:
        return _transcribe_all(parsed)
    began = profile.process_began()
    with profile.profiling(since=began) as run:
        run.add(profile.START, time.monotonic() - began)
        try:
            return _transcribe_all(parsed)
        finally:
            sys.stderr.write(run.report().table() + "\n")


def _transcribe_all(parsed: argparse.Namespace) -> int:
    warnings: list[str] = []
    settings = arguments.settings(parsed, warn=warnings)
    files = arguments.files(parsed.audio, parsed.output_name)
    check_apart(
        [file.source.path for file in files if file.source.is_local],
        [settings.output_dir / f"{stem(file.name)}.{name}" for file in files for name in settings.formats],
    )
    for warning in warnings:
        _log.warning("%s", warning)
    certificates.install()
    reporter = Reporter.from_environment()
    verbose = parsed.verbose if parsed.verbose is not None else not in_pod()
    printer = Printer(detected=parsed.language is None) if verbose else None
    job = Job(settings, reporter=reporter, printer=printer)
    failed: dict[str, RunnerError] = {}
    receipts: dict[str, dict[str, Any]] = {}
    try:
        with contextlib.closing(job.run_all(files)) as outcomes:
            for file, outcome in outcomes:
                if isinstance(outcome, RunnerError):
                    failed[file.name] = outcome
                    _tell(outcome)
                    if _concerns_all(outcome) or len(files) == 1:
                        break
                    _log.error("%s is skipped", file.source.shown)
                    continue
                receipts[file.name] = outcome
    finally:
        if reporter is not None:
            reporter.stop()
    # The first error and the last receipt in the order of the command line, whatever was finished first.
    places = {file.name: place for place, file in reversed(list(enumerate(files)))}
    if failed:
        first = failed[min(failed, key=places.__getitem__)]
        receipt.write(receipt.failure(first))
        return first.exit_code
    last = receipts[max(receipts, key=places.__getitem__)]
    if (run := profile.current()) is not None:
        last["timings"] |= run.report().timings()
    receipt.write(last)
    return 0


def _container_job(words: list[str]) -> int:
    call = container_job.understand(words)
    certificates.install()
    _, last = container_job.run(call)
    receipt.write(last)
    return 0


def _concerns_all(error: RunnerError) -> bool:
    """Whether the next file would meet it as well."""
    return isinstance(error, (ModelMissing, CorruptModelCache, Usage))


def _fail(error: RunnerError) -> int:
    _tell(error)
    receipt.write(receipt.failure(error))
    return error.exit_code


def _tell(error: RunnerError) -> None:
    _log.error("%s%s", error.message, f"\n{error.hint}" if error.hint else "")


def _unforeseen(error: BaseException) -> int:
    _log.error("unforeseen error", exc_info=error)
    explained = internal(error)
    receipt.write(receipt.failure(explained))
    _tell(explained)
    return explained.exit_code


def _stopped(stopped: Stopped) -> None:
    name = signal.Signals(stopped.number).name
    error = Temporary(
        f"Stopped by {name} before it was finished.", hint="The next attempt begins again, a download where it was."
    )
    _log.warning("%s", error.message)
    receipt.write(receipt.failure(error))


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM (a pod's end) raise Stopped, once; a second one ends the process as it would have."""

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: somebody else's process
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Formatter(logging.Formatter):
    """Whatever a message holds, no secret of a URL is shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Format and redact."""
        return scrub(super().format(record))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes where a bar may be drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write, and take the bar off first."""
        stand_aside()
        super().emit(record)


def _configure_logging() -> None:
    handler = _Handler(sys.stderr)
    plain = "%(message)s" if sys.stderr.isatty() else "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(_Formatter(plain, "%Y-%m-%dT%H:%M:%S%z"))
    _log.handlers[:] = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False
    # They tell of each request with its whole URL, secrets included, to whoever has set the root logger up.
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = [handler]


if __name__ == "__main__":
    sys.exit(main())
