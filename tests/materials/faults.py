"""Faults that a test's HTTP server shows on command, and the record of what it was asked."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["status", "stall", "cut", "corrupt", "slow"]
#: `api`: metadata; `resolve`: where a file is; `content`: a file's bytes.
Stage = Literal["api", "resolve", "content"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and for which requests.

    * `status`: answer with `status` (and `retry_after` seconds) instead.
    * `stall`: send nothing more from byte `at` on, without closing; with `seconds`, only so long.
    * `cut`: close the connection at byte `at` of the answer.
    * `corrupt`: turn over the bits of byte `at` of the file.
    * `slow`: send `rate` bytes a second.
    """

    kind: Kind
    #: A shell pattern for `owner/name/file` on a Hub, or for the URL's path without its first slash.
    path: str = "*"
    #: At which stage; none stands for every one where a status is answered, and for a file's content otherwise.
    on: Stage | None = None
    #: For how many requests; none stands for all, until the faults are cleared.
    times: int | None = None
    status: int = 500
    retry_after: float | None = None
    at: int = 0
    seconds: float | None = None
    rate: float = 100_000

    def concerns(self, path: str, stage: Stage) -> bool:
        """Say whether it is to be shown for this request."""
        everywhere = self.on is None and self.kind == "status"
        return (everywhere or stage == (self.on or "content")) and fnmatch.fnmatchcase(path, self.path)


@dataclass
class Request:
    """One request, from its arrival on; `sent` counts the bytes of the body as they go out."""

    method: str
    path: str
    stage: Stage
    status: int
    sent: int = 0
    range: str | None = None
    authorized: bool = False


class Behaviour:
    """A server's faults and its record; safe to use from other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int | None]] = []
        self._requests: list[Request] = []

    def add(self, fault: Fault) -> None:
        """Let this go wrong from now on; where several fit, the first one added is shown."""
        with self._lock:
            self._faults.append((fault, fault.times))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def faults(self) -> list[Fault]:
        """Return the faults that are still to be shown."""
        with self._lock:
            return [fault for fault, _ in self._faults]

    def due(self, path: str, stage: Stage) -> Fault | None:
        """Return the fault for this request, and count it."""
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.concerns(path, stage):
                    if left is not None:
                        self._faults[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault
        return None

    def record(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append(request)

    def forget(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests.clear()

    def requests(self, path: str = "*", stage: Stage | None = None) -> list[Request]:
        """Return the requests for a path (a shell pattern)."""
        with self._lock:
            return [
                request
                for request in self._requests
                if fnmatch.fnmatchcase(request.path, path) and stage in (None, request.stage)
            ]

    def sent(self, path: str = "*") -> int:
        """Return how many bytes of files' contents were sent."""
        return sum(request.sent for request in self.requests(path, "content"))


def as_json(items: Iterable[Fault | Request]) -> list[dict[str, Any]]:
    """Return faults or requests for an answer of the control path."""
    return [asdict(item) for item in items]
