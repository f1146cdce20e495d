"""Processes of this machine, known by their id and the moment they started: ids are used again."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError

DYING_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""In front of a command: the kernel ends it when the process that started it ends, however that ends."""


@dataclass(frozen=True)
class Process:
    """One process, never mistaken for a later one with the same id."""

    pid: int
    started: int

    @staticmethod
    def of(pid: int) -> Process:
        """The process that has this id now."""
        facts = _facts(pid)
        if facts is None:
            raise ClusterError(f"process {pid} ended at once")
        return Process(pid, facts[1])

    def alive(self) -> bool:
        """Whether it still runs; one that has ended and not been reaped does not."""
        facts = _facts(self.pid)
        return facts is not None and facts[1] == self.started and facts[0] not in "ZX"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to it and to no other."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within the time given."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            _reap(self.pid)
            time.sleep(0.01)
        _reap(self.pid)
        return True

    def children(self) -> list[Process]:
        """Its own children."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [Process.of(int(each)) for each in listed.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []


def _facts(pid: int) -> tuple[str, int] | None:
    """State and start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _reap(pid: int) -> None:
    """If it was this very process's child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
