"""Where the time of a run goes, stage by stage.

    with profile.profiling() as run:
        with profile.stage(profile.VAD):
            …
    print(run.report().table())

Off by default, and then a stage costs nothing to speak of. Stages may be nested and may run in any thread: a stage has
the time of its own, without that of the stages inside it. Sums of threads that work side by side can exceed the wall.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

START: Final = "start"
"""The interpreter and imports, wherever they happen."""
LOAD: Final = "load"
"""The model: from its files to the device."""
FETCH: Final = "fetch"
DECODE: Final = "decode"
"""From a container to samples."""
LOUDNESS: Final = "loudness"
"""The loudest moment of a file, which the log-mel's floor hangs on."""
VAD: Final = "vad"
WAIT: Final = "wait"
"""The engine's thread, for sound that is not there yet: what read-ahead is to keep at nothing."""
MEL: Final = "mel"
ENCODER: Final = "encoder"
DECODER: Final = "decoder"
WORDS: Final = "words"
WRITE: Final = "write"

STAGES: Final = (START, LOAD, FETCH, DECODE, LOUDNESS, VAD, WAIT, MEL, ENCODER, DECODER, WORDS, WRITE)
"""In the order in which sound goes through them."""
ENGINE: Final = frozenset({MEL, ENCODER, DECODER, WORDS})
"""The stages in which the engine is busy."""

FIRST_WINDOW: Final = "first window"
"""A moment: the first window is decoded."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Sum:
    seconds: float = 0.0
    calls: int = 0


class _Thread(threading.local):
    """What one thread is at: its open stages, the innermost last, and since when that one runs."""

    def __init__(self, threads: list[dict[str, _Sum]]) -> None:
        self.sums: dict[str, _Sum] = {}
        self.open: list[str] = []
        self.since = 0.0
        threads.append(self.sums)  # list.append is one step for other threads


@dataclass(frozen=True, slots=True)
class Line:
    """One stage: its seconds over all threads, how often it ran, and in how many threads."""

    name: str
    seconds: float
    calls: int
    threads: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a run's time went into. All times in seconds."""

    wall: float
    busy: float
    """The engine worked on something."""
    span: float
    """From the first time the engine worked to the last."""
    lines: tuple[Line, ...]
    moments: dict[str, float] = field(default_factory=dict)
    """When something happened first, after the beginning."""

    def seconds(self, name: str) -> float:
        """A stage's seconds; 0 where it never ran."""
        return sum(line.seconds for line in self.lines if line.name == name)

    def timings(self) -> dict[str, float]:
        """A flat summary, small enough for a receipt: each stage, the wall, and the engine's seconds."""
        found = {line.name: round(line.seconds, 3) for line in self.lines}
        found |= {name.replace(" ", "_"): round(seconds, 3) for name, seconds in self.moments.items()}
        return found | {"wall": round(self.wall, 3), "busy": round(self.busy, 3)}

    def table(self) -> str:
        """For people."""
        rows = [f"{'stage':<10}{'seconds':>10}{'of wall':>9}{'calls':>9}{'threads':>9}"]
        rows += [
            f"{line.name:<10}{line.seconds:>10.3f}{_share(line.seconds, self.wall):>9}{line.calls:>9}{line.threads:>9}"
            for line in self.lines
        ]
        rows.append(f"{'wall':<10}{self.wall:>10.3f}")
        rows += [f"{name}: after {seconds:.3f} s" for name, seconds in self.moments.items()]
        rows.append(
            f"engine busy: {self.busy:.3f} s, {_share(self.busy, self.wall)} of the wall"
            + (f", {_share(self.busy, self.span)} from its first work to its last" if self.span else "")
        )
        return "\n".join(rows)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole > 0 else "-"


class Profile:
    """Adds up the stages of a run."""

    def __init__(self, since: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin. since: when the run began, by the clock; now by default."""
        self._clock = clock
        self._since = clock() if since is None else since
        self._threads: list[dict[str, _Sum]] = []
        self._here = _Thread(self._threads)
        self._moments: dict[str, float] = {}
        self._lock = threading.Lock()
        self._working = 0
        self._busy_since = 0.0
        self._busy = 0.0
        self._first_work: float | None = None
        self._last_work = 0.0
        self._synchronize: Callable[[], object] | None = None

    def synchronize_with(self, hook: Callable[[], object]) -> None:
        """Have a device finish what it was given before a stage of the engine begins and ends.

        Without it the time of work that a GPU does on its own counts for whatever waits for it.
        """
        self._synchronize = hook

    def begin(self, name: str) -> None:
        """This thread enters a stage."""
        engine = name in ENGINE
        if engine and self._synchronize is not None:
            self._synchronize()
        here, now = self._here, self._clock()
        if here.open:
            self._count(here, now, 0)
        here.open.append(name)
        here.since = now
        if engine:
            with self._lock:
                if self._working == 0:
                    self._busy_since = now
                self._working += 1
                if self._first_work is None:
                    self._first_work = now

    def end(self) -> None:
        """This thread leaves the stage that it entered last."""
        here = self._here
        engine = here.open[-1] in ENGINE
        if engine and self._synchronize is not None:
            self._synchronize()
        now = self._clock()
        self._count(here, now, 1)
        here.open.pop()
        here.since = now
        if engine:
            with self._lock:
                self._working -= 1
                self._last_work = max(self._last_work, now)
                if self._working == 0:
                    self._busy += now - self._busy_since

    @staticmethod
    def _count(here: _Thread, now: float, calls: int) -> None:
        total = here.sums.setdefault(here.open[-1], _Sum())
        total.seconds += now - here.since
        total.calls += calls

    def add(self, name: str, seconds: float) -> None:
        """Time that was spent in a stage before there was a profile."""
        total = self._here.sums.setdefault(name, _Sum())
        total.seconds += seconds
        total.calls += 1

    def mark(self, name: str) -> None:
        """Something happens; the first time counts."""
        if name not in self._moments:
            self._moments[name] = self._clock() - self._since

    def report(self) -> Report:
        """Everything up to now; a stage that is still open counts once it is left."""
        now = self._clock()
        found: dict[str, list[_Sum]] = {}
        for sums in list(self._threads):
            for name, total in list(sums.items()):
                found.setdefault(name, []).append(total)
        names = [*(name for name in STAGES if name in found), *(name for name in found if name not in STAGES)]
        with self._lock:
            busy = self._busy + (now - self._busy_since if self._working else 0.0)
            last = now if self._working else self._last_work
            span = 0.0 if self._first_work is None else last - self._first_work
        lines = [
            Line(name, sum(each.seconds for each in of), sum(each.calls for each in of), len(of))
            for name, of in ((name, found[name]) for name in names)
        ]
        return Report(now - self._since, busy, span, tuple(lines), dict(self._moments))


class _Stage:
    """One passage through a stage."""

    __slots__ = ("_name", "_profile")

    def __init__(self, profile: Profile, name: str) -> None:
        self._profile = profile
        self._name = name

    def __enter__(self) -> None:
        self._profile.begin(self._name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._profile.end()


_OFF: Final = contextlib.nullcontext()
_current: Profile | None = None


@contextlib.contextmanager
def profiling(since: float | None = None) -> Iterator[Profile]:
    """Profile this process's runs for as long as the context lasts; one at a time."""
    global _current  # a process has one: stages of all threads belong to it
    before, _current = _current, Profile(since)
    try:
        yield _current
    finally:
        _current = before


def current() -> Profile | None:
    """This process's profile, if it makes one."""
    return _current


def stage(name: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a stage's work is done."""
    current = _current
    return _OFF if current is None else _Stage(current, name)


def each(name: str, items: Iterator[_T]) -> Iterator[_T]:
    """The items, the making of each of them in the stage."""
    while True:
        with stage(name):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def mark(name: str) -> None:
    """Note the first time that something happens."""
    if _current is not None:
        _current.mark(name)


def synchronize_with(hook: Callable[[], object]) -> None:
    """What has a device finish its work, such as `torch.cuda.synchronize`; called only while there is a profile."""
    if _current is not None:
        _current.synchronize_with(hook)


def process_began() -> float:
    """When this process was started, by `time.monotonic`, to a hundredth of a second."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
    after_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot)
