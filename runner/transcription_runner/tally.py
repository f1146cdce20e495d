"""What a download counts, and whom it tells: the terminal or log, and the WhisperModel's status."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from transcription_runner.errors import Reason
from transcription_runner.flushing import Flusher
from transcription_runner.hashes import Follower
from transcription_runner.model_report import ModelReporter
from transcription_runner.progress import Meter, human_bytes

SLOW = 20_000_000
"""Bytes a second; a volume that takes less, and that the download waits for most of its time, is called slow."""

_FAIR_SAMPLE = 2.0
"""Seconds of writing from which a volume is judged."""

_REPORT_EVERY = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a download took; the names are the termination message's."""

    bytesDownloaded: int = 0  # noqa: N815
    bytesResumed: int = 0  # noqa: N815
    bytesWritten: int = 0  # noqa: N815
    seconds: float = 0.0
    retries: int = 0


class Tally:
    """Counts one download's bytes."""

    def __init__(self, shown: str, reporter: ModelReporter | None) -> None:
        """Of the model called `shown`; progress goes to `reporter` too."""
        self._shown = shown
        self._reporter = reporter
        self._meter = Meter(None, what=shown)
        self._total = 0
        self._file: str | None = None
        self._resumed = 0
        self._retries = 0
        self._writing = 0.0
        self._told_slow = False
        self._next = 0.0

    def begin(self, total: int) -> None:
        """The download is of `total` bytes."""
        self._total = total
        self._meter = Meter(total, what=self._shown)

    def waiting(self) -> None:
        """Another process downloads the model."""
        self.say("another process downloads this model: waiting for it")

    def file(self, name: str) -> None:
        """The file whose turn it is."""
        self._file = name
        self.say(None)

    def skip(self, count: int) -> None:
        """So many bytes were here already (or, negative, have to come again)."""
        self._meter.skip(count)
        self._resumed += max(count, 0)
        self.say(None)

    def retry(self) -> None:
        """Something failed, and is tried again."""
        self._retries += 1

    def arrival(self, follower: Follower, flusher: Flusher, start: int) -> FileArrival:
        """Who is told of one file's bytes, from byte `start` on."""
        return FileArrival(self, follower, flusher, start)

    def count(self, count: int, seconds: float) -> None:
        """So many bytes were written, or flushed, which took so long."""
        self._writing += seconds
        self._meter.add(count)
        if self.slow and not self._told_slow:
            self._told_slow = True
            _log.warning("%s", self._slowness())
        self.say(None)

    @property
    def slow(self) -> bool:
        """Whether it is the volume that the download waits for, and that it takes little."""
        return (
            self._writing > _FAIR_SAMPLE
            and self._writing > self._meter.seconds / 2
            and self._meter.new / self._writing < SLOW
        )

    def _slowness(self) -> str:
        return f"the volume is slow: it takes {human_bytes(self._meter.new / self._writing)}/s"

    def say(self, message: str | None) -> None:
        """Report where the download is; without a message of its own, in figures."""
        if self._reporter is None or (message is None and time.monotonic() < self._next):
            return
        self._next = time.monotonic() + _REPORT_EVERY
        if message is None:
            message = f"{self._meter.text}; {self._slowness()}" if self.slow else self._meter.text
        done, left = max(0, self._meter.done), self._meter.left
        value = {
            "percent": min(100, 100 * done // self._total) if self._total else 0,
            "downloadedBytes": done,
            "totalBytes": self._total,
            "bytesPerSecond": round(self._meter.speed),
            "etaSeconds": round(left) if left is not None else None,
            "file": self._file,
            "reason": Reason.VOLUME_SLOW if self.slow else None,
            "message": message[:1000],
            "updatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._reporter.progress({name: item for name, item in value.items() if item is not None})

    def transfer(self) -> Transfer:
        """What it took, so far."""
        return Transfer(
            bytesDownloaded=self._meter.new,
            bytesResumed=self._resumed,
            bytesWritten=self._meter.new,
            seconds=round(self._meter.seconds, 3),
            retries=self._retries,
        )

    def close(self) -> None:
        """Take the bar off the terminal, and log the whole."""
        self._meter.finish()


class FileArrival:
    """One file's bytes as they are written: counted, and hashed and flushed behind the writer."""

    def __init__(self, tally: Tally, follower: Follower, flusher: Flusher, start: int) -> None:
        """From byte `start` on."""
        self._tally = tally
        self._follower = follower
        self._flusher = flusher
        self._position = start

    def got(self, count: int, seconds: float) -> None:
        """So many more bytes were written, which took so long."""
        self._position += count
        self._follower.advance(self._position)
        self._tally.count(count, seconds + self._flusher.advance(self._position))

    def restart(self) -> None:
        """The file is written again from its beginning."""
        self._tally.skip(-self._position)
        self._position = 0
        self._follower.restart()
        self._flusher.restart()

    def retry(self) -> None:
        """Something failed, and is tried again."""
        self._tally.retry()
