"""Work done ahead of whoever takes its results: in threads, in order, and never more of it than was agreed.

PyAV, numpy and torch let other threads run while they compute, so files are opened and heard, and blocks of a long one
decoded, while the engine is busy.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")

_LAST_WORDS: Final = 5.0
"""Seconds that a thread has to notice that nobody wants its work any more."""


class Stopped(Exception):
    """Nobody wants the result any more: said to the work, which lets it through."""


@dataclass(eq=False, slots=True)
class _Slot(Generic[_Item, _Done]):
    item: _Item | None
    done: bool = False
    result: _Done | None = None
    error: BaseException | None = None


class Place(Generic[_Item, _Done]):
    """Where one item stands; its work asks here whether to go on."""

    def __init__(self, ahead: Ahead[_Item, _Done], slot: _Slot[_Item, _Done]) -> None:
        self._ahead = ahead
        self._slot = slot

    def check(self) -> None:
        """Raise Stopped if nobody wants the result any more."""
        if self._ahead.stopped:
            raise Stopped

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for something that other items hold (Ahead.nudge), or until this item is the next to be taken.

        Raises Stopped.
        """
        self._ahead.hold(self._slot, until)
        self.check()


class Ahead(Generic[_Item, _Done]):
    """An iterator of items with the results of the work on them, or the errors that it raised."""

    def __init__(
        self,
        items: Iterable[_Item],
        work: Callable[[_Item, Place[_Item, _Done]], _Done],
        *,
        threads: int = 1,
        most: int,
        errors: tuple[type[Exception], ...] = (),
        drop: Callable[[_Done], object] = lambda _: None,
        begin: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare; the first item that is asked for begins.

        items: taken one at a time, in any of the threads. most: results that are there or being made at once, and not
        taken yet. errors: what is an item's own and is handed over beside it; any other ends the iteration. drop: what
        to do with a result that nobody took. begin: done first in each thread.
        """
        self._items = iter(items)
        self._work = work
        self._most = most
        self._errors = errors
        self._drop = drop
        self._begin = begin
        self._state = threading.Condition()
        self._pulling = threading.Lock()
        self._slots: deque[_Slot[_Item, _Done]] = deque()
        self._ended = False
        self.stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"ahead-{number}", daemon=True) for number in range(threads)
        ]
        self._started = False

    def __iter__(self) -> Ahead[_Item, _Done]:
        return self

    def __next__(self) -> tuple[_Item, _Done | Exception]:
        """The next item; waits for its result."""
        self._start()
        with self._state:
            # With a timeout, so that a signal's handler gets its turn.
            while not self._next_is_known():
                self._state.wait(0.5)
            if not self._slots:
                raise StopIteration
            slot = self._slots.popleft()
            self._state.notify_all()
        if slot.error is not None and not (slot.item is not None and isinstance(slot.error, self._errors)):
            raise slot.error
        return slot.item, slot.error or slot.result  # type: ignore[return-value]  # there is one of the two

    @property
    def ready(self) -> bool:
        """Whether the next item, or the end, can be had without waiting."""
        self._start()
        with self._state:
            return self._next_is_known()

    def _next_is_known(self) -> bool:
        return self._slots[0].done if self._slots else self._ended or self.stopped

    def nudge(self) -> None:
        """Something was given back that an item may wait for."""
        with self._state:
            self._state.notify_all()

    def hold(self, slot: _Slot[_Item, _Done], until: Callable[[], bool]) -> None:
        """Wait for `until`, but not with the item that is to be taken next."""
        with self._state:
            self._state.wait_for(lambda: self.stopped or until() or self._slots[0] is slot)

    def close(self, patience: float | None = _LAST_WORDS) -> None:
        """End the threads, and drop what was made for nobody. patience: seconds for a thread; None: no limit."""
        with self._state:
            self.stopped = True
            self._state.notify_all()
        for thread in self._threads if self._started else ():
            thread.join(patience)
        with self._state:
            left = [slot for slot in self._slots if slot.done and slot.error is None]
            self._slots.clear()
        for slot in left:
            self._drop(slot.result)  # type: ignore[arg-type]  # without an error there is one

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _run(self) -> None:
        self._begin()
        while (slot := self._pull()) is not None:
            try:
                slot.result = self._work(slot.item, Place(self, slot))  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001  # raised again where the result is taken
                slot.error = error
            with self._state:
                slot.done = True
                late = self.stopped and slot not in self._slots
                self._state.notify_all()
            if late and slot.error is None:
                self._drop(slot.result)  # type: ignore[arg-type]

    def _pull(self) -> _Slot[_Item, _Done] | None:
        """The next item to work on, as soon as there may be one more; None at the end."""
        with self._pulling:
            with self._state:
                self._state.wait_for(lambda: self.stopped or self._ended or len(self._slots) < self._most)
                if self.stopped or self._ended:
                    return None
            slot: _Slot[_Item, _Done]
            try:
                slot = _Slot(next(self._items))
            except StopIteration:
                slot = _Slot(None)
            except BaseException as error:  # noqa: BLE001  # raised again at its place
                slot = _Slot(None, done=True, error=error)
            with self._state:
                self._ended = slot.item is None
                if slot.item is not None or slot.error is not None:
                    self._slots.append(slot)
                self._state.notify_all()
            return None if self._ended else slot
