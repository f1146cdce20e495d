"""Progress for people: a bar on a terminal; a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from typing import Any, TypeAlias

# tqdm has no annotations.
_Tqdm: TypeAlias = Any

_log = logging.getLogger(__name__)

_LONGEST_NAME = 24
_MARKS = 15
"""Seconds that a download's speed is taken over."""

# What is drawn on the terminal now: whoever writes there takes it off first.
_drawn: Bar | None = None


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


class Bar:
    """How far something is: a bar on a terminal, and a line every `every` seconds elsewhere."""

    def __init__(self, *, every: float = 15.0, terminal: bool | None = None) -> None:
        """Log every `every` seconds; `terminal` is found out when it is not told."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._every = every
        self._next = time.monotonic() + (0.0 if self._terminal else every)
        self._tqdm: _Tqdm = None

    @property
    def due(self) -> bool:
        """Whether it is time for it."""
        return time.monotonic() >= self._next

    def show(self, what: str, done: float, total: float, text: str) -> None:
        """Show, if it is time for it: `what` is `done` of `total`, which `text` says for people."""
        if not self.due:
            return
        if not self._terminal:
            self._next = time.monotonic() + self._every
            _log.info("%s: %s", what, text)
            return
        global _drawn  # there is one terminal
        self._next = time.monotonic() + 0.2
        bar = self._tqdm = self._tqdm or _bar()
        bar.desc, bar.n, bar.total = _short(what), min(done, total), total or 1
        bar.bar_format = "{desc}: {percentage:3.0f}%|{bar}| " + text if total else "{desc}: " + text
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
    """Bytes of a download: how many, how fast, how long still. A bar on a terminal, a line now and then in a log."""

    def __init__(self, total: int | None, *, what: str, every: float = 10.0, terminal: bool | None = None) -> None:
        """Count towards `total` bytes of `what`; logged every `every` seconds."""
        self._total = total
        self._what = what
        self._bar = Bar(every=every, terminal=terminal)
        self.done = 0
        self.new = 0
        self._started = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=_MARKS)

    def add(self, count: int) -> None:
        """Count bytes that came just now."""
        self.done += count
        self.new += count
        now = time.monotonic()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, self.new))
        if self._bar.due:
            self._bar.show(self._what, self.done, self._total or 0, self.text)

    def skip(self, count: int) -> None:
        """Count bytes that were here already (or, negative, have to come again)."""
        self.done += count

    def at(self, done: int, total: int | None) -> None:
        """Say where the download is."""
        self._total = total
        self.add(done - self.done)

    def finish(self) -> None:
        """Log the whole."""
        self._bar.close()
        if self.new:
            seconds = self.seconds
            _log.info(
                "%s: %s in %.1f s, %s/s", self._what, human_bytes(self.new), seconds, human_bytes(self.new / seconds)
            )

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self._started, 1e-6)

    @property
    def speed(self) -> float:
        """Bytes a second, lately."""
        began, before = self._marks[0]
        return (self.new - before) / max(time.monotonic() - began, 1e-6)

    @property
    def left(self) -> float | None:
        """Seconds still to go, as far as the speed tells."""
        speed = self.speed
        return (self._total - self.done) / speed if self._total and speed > 0 else None

    @property
    def text(self) -> str:
        """Where it is, for people."""
        if not self._total:
            return f"{human_bytes(self.done)}, {human_bytes(self.speed)}/s"
        left = human_seconds(self.left) if self.left is not None else "?"
        return f"{human_bytes(self.done)} of {human_bytes(self._total)}, {human_bytes(self.speed)}/s, {left} left"
