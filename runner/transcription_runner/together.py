"""Several files of one plain call, their windows in the same batches.

Each file has the outcome, the messages and the copies that it has alone; files come in the order of their ends. They
are not waited for on the disk, one by one: thousands of small ones would take longer to be safe than to be heard.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from transcription_runner.errors import RunnerError
from transcription_runner.job import Many, check_source, how_far, is_out_of_memory, named, out_of_memory
from transcription_runner.outputs import DurableCopy, check_writable
from transcription_runner.progress import Bar
from transcription_runner.settings import File

if TYPE_CHECKING:
    from transcription_runner.job import Job
    from transcription_runner.transcribe import Outcome, Progress

Finished: TypeAlias = tuple[File, dict[str, Any] | RunnerError]

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Open:
    """A file that was fetched and is not finished."""

    file: File
    audio: Path
    kept: contextlib.ExitStack
    """Keeps the fetched audio where it is."""
    started: float
    ready: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)


class Together:
    """Transcribes files of one call side by side."""

    def __init__(self, job: Job, files: Sequence[File]) -> None:
        """Prepare; `run` begins."""
        self._job = job
        self._waiting = iter(files)
        self._open: deque[_Open] = deque()
        self._failed: deque[Finished] = deque()
        self._overall = _Overall(len(files))
        self._writable = False

    def run(self) -> Iterator[Finished]:
        """Yield each file with its receipt, or the error that it met, as it is finished."""
        try:
            yield from self._run()
        finally:
            self._overall.bar.close()
            while self._open:
                self._open.popleft().kept.close()

    def _run(self) -> Iterator[Finished]:
        audio = self._fetched()
        first = next(audio, None)
        yield from self._failures()
        if first is None:
            return
        try:
            engine, _, many = self._job.loader.wait()
        except RunnerError as error:
            yield from self._all_fail(error)
            return
        self._open[0].ready = time.monotonic()  # it waited for the model
        if many is not None:
            yield from self._side_by_side(engine, many, itertools.chain([first], audio))
        # What is left after a lack of memory has all of it to itself, one after another.
        while self._open or next(audio, None) is not None:
            yield from self._failures()
            yield self._alone(self._open.popleft())
        yield from self._failures()

    def _fetched(self) -> Iterator[Path]:
        """Each file's audio, fetched when it is asked for; those that cannot be had are among the failed.

        Threads that read ahead ask, one at a time.
        """
        for file in self._waiting:
            started = time.monotonic()
            kept = contextlib.ExitStack()
            timings: dict[str, float] = {}
            try:
                check_source(file.source)
                if not self._writable:
                    check_writable(self._job.settings.output_dir, self._job.settings.output)
                    self._writable = True
                self._job.loader.start()
                audio = kept.enter_context(self._job.fetched(file.source, timings))
            except RunnerError as error:
                self._failed.append((file, error))
                continue
            self._open.append(_Open(file, audio, kept, started, timings=timings))
            yield audio

    def _failures(self) -> Iterator[Finished]:
        while self._failed:
            self._overall.finished += 1
            yield self._failed.popleft()

    def _all_fail(self, error: RunnerError) -> Iterator[Finished]:
        """What one file met, every other would meet as well."""
        while self._open:
            opened = self._open.popleft()
            opened.kept.close()
            yield opened.file, error
        for file in self._waiting:
            yield file, error

    def _side_by_side(self, engine: object, many: Many, audio: Iterator[Path]) -> Iterator[Finished]:
        with contextlib.closing(many(engine, audio, self._job.settings.options, on_progress=self._overall)) as outcomes:
            yield from self._finished(outcomes)

    def _finished(self, outcomes: Iterator[Outcome]) -> Iterator[Finished]:
        while True:
            try:
                outcome = next(outcomes, None)
            except (RunnerError, MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    _log.warning("%s Going on with one file at a time.", out_of_memory(error).message)
                    return
                if not isinstance(error, RunnerError):
                    raise
                yield from self._all_fail(error)
                return
            yield from self._failures()
            if outcome is None:
                return
            self._overall.finished += 1
            yield self._finish(outcome)

    def _finish(self, outcome: Outcome) -> Finished:
        # The same file may have been named twice.
        opened = next(each for each in list(self._open) if each.audio == outcome.path)  # others are being added
        self._open.remove(opened)
        opened.timings |= {"load": self._job.loader.seconds, "transcribe": time.monotonic() - opened.ready}
        with opened.kept:
            if outcome.error is not None:
                return opened.file, named(outcome.error, opened.audio, opened.file.source)
            return self._written(opened, outcome.result or {}, outcome.duration)

    def _alone(self, opened: _Open) -> Finished:
        with opened.kept:
            try:
                result, duration = self._job.listen(opened.file.source, opened.audio, opened.timings)
            except RunnerError as error:
                return opened.file, error
            return self._written(opened, result, duration)

    def _written(self, opened: _Open, result: dict[str, Any], duration: float) -> Finished:
        job, file = self._job, opened.file
        copy = DurableCopy(job.settings.output_dir, file.name, durably=False)
        try:
            facts = job.facts(file.source, result, duration, opened.timings)
            durable = job.written(copy, result, facts, None)
            return file, job.finish(copy, durable, opened.timings, opened.started)
        except RunnerError as error:
            return file, error


class _Overall:
    """The progress of all files as one. Those not open yet are taken to be as long as the others are on the mean."""

    def __init__(self, count: int) -> None:
        self.bar = Bar()
        self.finished = 0
        self._count = count
        self._since: float | None = None
        self._seen: dict[Path, Progress] = {}
        self._done = self._total = 0.0

    def __call__(self, path: Path, progress: Progress) -> None:
        """`path` has come as far as `progress` says."""
        self._since = self._since or time.monotonic() - progress.processed_seconds / max(progress.speed, 1e-6)
        before = self._seen.get(path)
        self._seen[path] = progress
        self._done += progress.processed_seconds - (before.processed_seconds if before else 0.0)
        self._total += progress.total_seconds - (before.total_seconds if before else 0.0)
        total = self._total / len(self._seen) * self._count
        speed = self._done / max(time.monotonic() - self._since, 1e-6)
        self.bar.show(f"{self.finished} of {self._count} files", self._done, total, how_far(self._done, total, speed))
