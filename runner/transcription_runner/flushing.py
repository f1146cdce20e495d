"""Bringing what is written to the disk while more of it comes, and waiting where the disk does not keep up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STEP = 32 << 20
_AHEAD = 256 << 20
"""Bytes that may be in memory alone: no more has to be waited for at the end, and a container's memory holds them."""


class Flusher:
    """Flushes a file behind whoever writes it, in a thread of its own."""

    def __init__(self, path: Path, durable: int = 0) -> None:
        """Flush `path`, which exists, and whose first `durable` bytes need no waiting for."""
        self._descriptor = os.open(path, os.O_RDONLY)
        self._changed = threading.Condition()
        self._written = self._flushed = durable
        self._ended = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
        self._thread.start()

    def advance(self, written: int) -> float:
        """The file's first `written` bytes are there. Returns the seconds that the disk made the writer wait.

        Raises OSError where it could not take them.
        """
        self._written = written
        if self._error is None and written - self._flushed < _STEP:
            return 0.0
        with self._changed:
            self._changed.notify_all()
            if self._error is None and self._written - self._flushed <= _AHEAD:
                return 0.0
            began = time.monotonic()
            self._changed.wait_for(lambda: self._error is not None or self._written - self._flushed <= _AHEAD)
            if self._error is not None:
                raise self._error
            return time.monotonic() - began

    def restart(self) -> None:
        """The file is written again from its beginning."""
        with self._changed:
            self._written = self._flushed = 0

    def finish(self) -> float:
        """Have all of it on the disk. Returns the seconds that took. Raises OSError."""
        began = time.monotonic()
        self._end()
        if self._error is not None:
            raise self._error
        os.fsync(self._descriptor)
        return time.monotonic() - began

    def close(self) -> None:
        """End, finished or not."""
        self._end()
        os.close(self._descriptor)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._written - self._flushed >= _STEP)
                if self._ended:
                    return
                written = self._written
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                # A restart in between has set both back; at the end all of it is flushed in any case.
                self._flushed = min(written, self._written)
                self._changed.notify_all()


@contextmanager
def flushing(path: Path, durable: int = 0) -> Iterator[Flusher]:
    """A Flusher that ends with the context, however that ends."""
    flusher = Flusher(path, durable)
    try:
        yield flusher
    finally:
        flusher.close()
