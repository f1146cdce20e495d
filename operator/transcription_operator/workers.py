"""Threads that work the queue off."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from transcription_operator.api import ApiError
from transcription_operator.keys import AnyKey, Outcome
from transcription_operator.queue import WorkQueue

_log = logging.getLogger(__name__)
_LONGEST_SLEEP = 3600.0


class Workers:
    """`count` threads, each with one key at a time."""

    def __init__(self, queue: WorkQueue[AnyKey], reconcile: Callable[[AnyKey], Outcome], count: int = 4) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        """Start them all."""
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 20.0) -> None:
        """Let each finish what it has in hand."""
        self._queue.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(patience)

    @property
    def alive(self) -> bool:
        """Whether every one of them still works."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (key := self._queue.get()) is not None:
            try:
                self._work(key)
            except Exception:  # noqa: BLE001  (a worker must outlive whatever one resource does to it)
                delay = self._queue.retry(key)
                _log.exception("%s: unexpected failure; next try in %.1f s", key, delay)
            finally:
                self._queue.done(key)

    def _work(self, key: AnyKey) -> None:
        try:
            outcome = self._reconcile(key)
        except ApiError as error:
            delay = self._queue.retry(key)
            # A conflict only means that the object has changed since it was read.
            level = logging.DEBUG if error.is_conflict else logging.WARNING
            _log.log(level, "%s: %s; next try in %.1f s", key, error, delay)
            return
        self._queue.forget(key)
        if outcome.again:
            self._queue.add(key)
        if outcome.after is not None:
            self._queue.add_after(key, min(outcome.after, _LONGEST_SLEEP))
