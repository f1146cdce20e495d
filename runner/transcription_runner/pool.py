"""Engines in processes of their own, one for each further GPU: all of them work on one queue of windows.

The files' state machines stay in one process. A worker is a Lane behind a pipe: tasks with their sound go in, answers
come out. It ends with the process that began it.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Hashable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, cast

from transcription_runner import errors
from transcription_runner.child import Child
from transcription_runner.lane import Answer, Lane, Task
from transcription_runner.options import TranscribeOptions
from transcription_runner.windows import Cut

_PATIENCE: Final = 0.5
"""Seconds to wait for an answer before other things get their turn, signals among them."""


class Worker:
    """One process with an engine, which loads while other things are done."""

    def __init__(self, path: Path, how: Mapping[str, Any]) -> None:
        """Start it. path, how: what load_engine is to be called with there."""
        self._child = Child("transcription_runner.pool")
        self.connection = self._child.connection
        # Whoever sends may have to wait for room in the pipe, while the other side waits to send as well.
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._send, name="worker-outbox", daemon=True).start()
        self.say((path, dict(how)))

    def say(self, message: object) -> None:
        """Send a message, without waiting."""
        self._outbox.put(message)

    def hear(self) -> Any:
        """The next message. Raises what the worker raised, or errors.Internal where it is gone."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            raise errors.Internal(
                f"a worker process ended before its time (exit status {self._child.wait()})",
                hint="Was it short of memory? --num_workers 1 works without it.",
            ) from None
        if isinstance(message, BaseException):
            raise message
        return message

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connection.send(self._outbox.get())


class Pool:
    """Some workers as one server of windows (scheduler.Server)."""

    def __init__(self, workers: Sequence[Worker], options: TranscribeOptions) -> None:
        """All tasks share the options. Raises what the workers met while loading."""
        self._workers = workers
        self._loads = [0] * len(workers)
        self._places: dict[tuple[Hashable, Cut], int] = {}
        """Which worker has whose features."""
        for worker in workers:
            worker.say(options)
        self._sizes = [self._size(worker) for worker in workers]

    @staticmethod
    def _size(worker: Worker) -> int:
        # Before it may come answers that an earlier pool did not wait for.
        while not isinstance(size := worker.hear(), int):
            pass
        return size

    @property
    def batch_size(self) -> int:
        """Windows that all of them decode at once."""
        return sum(self._sizes)

    @property
    def load(self) -> int:
        """Windows waiting or being decoded."""
        return sum(self._loads)

    def give(self, task: Task) -> None:
        """One more task, for the worker that knows its window, or the one with the most room."""
        key = task.source, task.request.cut
        if task.sound is not None:
            loads = [load - size for load, size in zip(self._loads, self._sizes, strict=True)]
            self._places[key] = loads.index(min(loads))
        at = self._places[key]
        self._loads[at] += 1
        self._workers[at].say(task)

    def forget(self, source: Hashable, cut: Cut) -> None:
        """Nobody will ask for this window again."""
        self._workers[self._places.pop((source, cut))].say((source, cut))

    def work(self, *, idle: bool = False) -> list[Answer]:
        """The answers that are there; idle: wait for one, since there is nothing else to do."""
        busy = {worker.connection: at for at, worker in enumerate(self._workers) if self._loads[at]}
        answers: list[Answer] = []
        for connection in wait(list(busy), _PATIENCE if idle else 0):
            at = busy[cast("Connection[Any, Any]", connection)]
            found = self._workers[at].hear()
            self._loads[at] -= len(found)
            answers += found
        return answers


def serve(connection: Connection[Any, Any]) -> None:
    """A worker's life: load an engine, then a lane for each set of options, until nobody is there any more."""
    from transcription_runner.engine import load_engine

    path, how = connection.recv()
    try:
        engine = load_engine(path, **how)
        lane: Lane | None = None
        while True:
            while lane is None or not lane.load or connection.poll():
                match connection.recv():
                    case TranscribeOptions() as options:
                        lane = Lane(engine, options, batch_size=options.batch_size)
                        connection.send(lane.batch_size)
                    case Task() as task if lane is not None:
                        lane.give(task)
                    case (source, cut) if lane is not None:
                        lane.forget(source, cut)
            answers = lane.work()
            if answers:
                connection.send(answers)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001  # raised again where the answers are waited for
        connection.send(error)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve(Connection(int(sys.argv[1])))
