"""Progress for people: a line that is redrawn on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

_log = logging.getLogger(__name__)


def human_bytes(count: float) -> str:
    """`3.1 GB`, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def human_seconds(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Line:
    """A line of progress: redrawn on a terminal, and logged every `every` seconds elsewhere."""

    def __init__(self, *, every: float = 10.0, terminal: bool | None = None) -> None:
        """Log every `every` seconds; `terminal` is found out when it is not told."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._every = every
        self._next = time.monotonic() + (0.2 if self._terminal else every)
        self._drawn = False

    @property
    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() >= self._next

    def show(self, text: str) -> None:
        """Show it, due or not."""
        if self._terminal:
            self._next = time.monotonic() + 0.2
            self._drawn = True
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            self._next = time.monotonic() + self._every
            _log.info("%s", text)

    def clear(self) -> None:
        """Take it off the terminal."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


class Meter:
    """Bytes of a download: how many, how fast, how long still."""

    def __init__(self, total: int | None, *, what: str, every: float = 10.0) -> None:
        """Count towards `total` bytes of `what`; logged every `every` seconds."""
        self._total = total
        self._what = what
        self._line = Line(every=every)
        self._done = 0
        self._new = 0
        self._started = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes that came just now."""
        self._done += count
        self._new += count
        if self._line.due:
            self._line.show(self._text())

    def skip(self, count: int) -> None:
        """Count bytes that were here already (or, negative, have to come again)."""
        self._done += count

    def at(self, done: int, total: int | None) -> None:
        """Say where the download is."""
        self._total = total
        self.add(done - self._done)

    def finish(self) -> None:
        """Log the whole."""
        self._line.clear()
        seconds = max(time.monotonic() - self._started, 1e-6)
        if self._new:
            _log.info(
                "%s: %s in %.1f s, %s/s", self._what, human_bytes(self._new), seconds, human_bytes(self._new / seconds)
            )

    def _text(self) -> str:
        speed = self._new / max(time.monotonic() - self._started, 1e-6)
        if not self._total:
            return f"{self._what}: {human_bytes(self._done)}, {human_bytes(speed)}/s"
        left = human_seconds((self._total - self._done) / speed) if speed > 0 else "?"
        percent = 100 * self._done // self._total
        return f"{self._what}: {percent}% of {human_bytes(self._total)}, {human_bytes(speed)}/s, {left} left"
