"""A work queue like controller-runtime's: keys once, never two workers on one key, backoff per key."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Deduplicating, delaying, rate-limiting."""

    def __init__(
        self,
        *,
        first_delay: float = 0.2,
        longest_delay: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first, self._longest, self._clock = first_delay, longest_delay, clock
        self._changed = threading.Condition()
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = itertools.count()
        self._closed = False

    def add(self, key: K) -> None:
        """Have a key worked on soon; while it is worked on, once more afterwards."""
        with self._changed:
            self._add(key)

    def _add(self, key: K) -> None:
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._ready.append(key)
            self._changed.notify()

    def add_after(self, key: K, delay: float) -> None:
        """Have a key worked on in `delay` seconds; of several such wishes the earliest counts."""
        if delay <= 0:
            self.add(key)
            return
        with self._changed:
            due = self._clock() + delay
            if self._closed or self._due.get(key, float("inf")) <= due:
                return
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._count), key))
            self._changed.notify()

    def retry(self, key: K) -> float:
        """Have a key that failed worked on again, later each time; returns the delay."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
        delay = float(min(self._first * 2 ** min(failures, 30), self._longest))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """A key succeeded: its next failure begins with the shortest delay."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self) -> K | None:
        """The next key; blocks. None once the queue is closed. Call `done` afterwards."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                self._promote()
                if self._ready:
                    key = self._ready.popleft()
                    self._dirty.discard(key)
                    self._busy.add(key)
                    return key
                self._changed.wait(self._later[0][0] - self._clock() if self._later else None)

    def _promote(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            # An earlier wish may have replaced this one: only the one on record counts.
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)

    def done(self, key: K) -> None:
        """A worker has finished with a key."""
        with self._changed:
            self._busy.discard(key)
            if key in self._dirty:
                self._ready.append(key)
                self._changed.notify()

    def close(self) -> None:
        """Wake every worker and give out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many keys wait to be worked on now."""
        with self._changed:
            return len(self._ready)
