"""Progress for people: a bar, or a line that is redrawn, on a terminal; a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TypeAlias

# tqdm has no annotations.
_Tqdm: TypeAlias = Any

_log = logging.getLogger(__name__)

_LONGEST_NAME = 24

# What is drawn on the terminal now: whoever writes there takes it off first.
_drawn: Line | Bar | None = None


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


def stand_aside() -> None:
    """Take off the terminal whatever is drawn there, for something else to be written; it comes back by itself."""
    if _drawn is not None:
        _drawn.clear()


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
            global _drawn  # there is one terminal
            self._next = time.monotonic() + 0.2
            self._drawn = True
            _drawn = self
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


class Bar:
    """How far a transcription is: a bar on a terminal, and a line every `every` seconds elsewhere."""

    def __init__(self, *, every: float = 15.0, terminal: bool | None = None) -> None:
        """Log every `every` seconds; `terminal` is found out when it is not told."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._every = every
        self._next = time.monotonic() + (0.0 if self._terminal else every)
        self._tqdm: _Tqdm = None

    def show(self, what: str, done: float, total: float, text: str) -> None:
        """Show, if it is time for it: `what` is `done` of `total`, which `text` says for people."""
        if time.monotonic() < self._next:
            return
        if not self._terminal:
            self._next = time.monotonic() + self._every
            _log.info("%s: %s", what, text)
            return
        global _drawn  # there is one terminal
        self._next = time.monotonic() + 0.2
        bar = self._tqdm = self._tqdm or _bar()
        bar.desc, bar.n, bar.total = _short(what), min(done, total), total or 1
        bar.bar_format = "{desc}: {percentage:3.0f}%|{bar}| " + text
        bar.refresh()
        _drawn = self

    def clear(self) -> None:
        """Take it off the terminal until it is shown again."""
        if self._tqdm is not None:
            self._tqdm.clear()
            self._next = 0.0

    def close(self) -> None:
        """Take it off the terminal for good."""
        if self._tqdm is not None:
            self.clear()
            self._tqdm.close()
            self._tqdm = None


def _short(what: str) -> str:
    """The last part of a path or URL, and little of it: the bar needs the terminal's width."""
    name = what.rpartition("/")[2] or what
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _bar() -> _Tqdm:
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(file=sys.stderr, total=1, leave=False, dynamic_ncols=True, delay=1e9)


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
