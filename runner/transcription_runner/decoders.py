"""Sound decoded in processes of their own, for an engine that many threads would not feed fast enough.

Python's threads take turns, and a decoder asks for one several times for every 20 ms of sound: a few of them in one
process are slower than one, and slow down the engine's thread. Here a process decodes, and a thread has one turn for a
block of 30 s.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from transcription_runner import errors, profile
from transcription_runner.audio import AudioFile, Samples
from transcription_runner.child import Child

_SHORT: Final = 30.0
"""Seconds of sound below which a turn or two more cost less than asking another process."""


class Decoders:
    """Processes that decode files, started as they are needed. Any thread may ask."""

    def __init__(self) -> None:
        """None are there yet."""
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()
        self._closed = False

    def open(self, path: Path) -> AudioFile:
        """A file that is decoded elsewhere. Raises what AudioFile raises."""
        return _File(path, self)

    def blocks(self, path: Path, start: float, end: float | None) -> Generator[tuple[int, Samples]]:
        """What AudioFile.blocks gives for the path."""
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or _Decoder()
        done = False
        try:
            yield from decoder.blocks(path, start, end)
            done = True
        except errors.RunnerError as error:
            done = not isinstance(error, errors.Internal)
            raise
        finally:
            # One that is in the midst of a file that nobody wants any more ends with it.
            with self._lock:
                kept = done and not self._closed
                if kept:
                    self._idle.append(decoder)
            if not kept:
                decoder.close()

    def close(self) -> None:
        """End the processes, those that are still at work as soon as they are left."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.close()


class _File(AudioFile):
    """A file of which the header alone is read here, save where it is short."""

    def __init__(self, path: Path, decoders: Decoders) -> None:
        super().__init__(path)
        self._decoders = decoders
        self._is_short = self.duration is not None and self.duration < _SHORT
        if not self._is_short:
            self.close()

    def blocks(self, start: float = 0.0, end: float | None = None) -> Iterator[tuple[int, Samples]]:
        if self._is_short:
            return super().blocks(start, end)
        return profile.each(profile.DECODE, self._decoders.blocks(self.path, start, end))


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        self._child = Child("transcription_runner.decoders")

    def blocks(self, path: Path, start: float, end: float | None) -> Iterator[tuple[int, Samples]]:
        with self._there(path):
            self._child.connection.send((path, start, end))
        while True:
            with self._there(path):
                message = self._child.connection.recv()
            match message:
                case None:
                    return
                case BaseException():
                    raise message
                case logging.LogRecord():
                    logging.getLogger(message.name).handle(message)
                case block:
                    yield block

    @contextlib.contextmanager
    def _there(self, path: Path) -> Iterator[None]:
        """Tell that the process is gone."""
        try:
            yield
        except (EOFError, OSError):
            raise errors.Internal(
                f"{path.name}: the process that decoded it ended (exit status {self._child.wait()})",
                hint="Was it short of memory? Raise the container's memory limit.",
            ) from None

    def close(self) -> None:
        self._child.close()


class _Told(logging.Handler):
    """Hands what is logged to the process that asked."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._connection.send(record)


def serve(connection: Connection[Any, Any]) -> None:
    """A process's life: one file after the other, until nobody is there any more."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Told(connection)], force=True)
    file: AudioFile | None = None
    while True:
        try:
            path, start, end = connection.recv()
        except EOFError:
            return
        try:
            if file is None or file.path != path:  # what was found in seeking is of use for the next stretch
                if file is not None:
                    file.close()
                file = None
                file = AudioFile(path)
            for block in file.blocks(start, end):
                connection.send(block)
            connection.send(None)
        except errors.RunnerError as error:
            connection.send(error)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        serve(Connection(int(sys.argv[1])))
