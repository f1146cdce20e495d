"""Runs a cluster's components, each again whenever it ends, and answers on a socket.

Two ways to run: as the first process of a node's own namespaces (its end is the end of everything in them), or as a
plain process whose components die with it. Reads one JSON file, imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_RESTART_SECONDS = 0.15
_SLOW_RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class Component:
    """One program of the cluster."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything that a supervisor runs."""

    logs: str
    socket: str
    components: list[Component]
    setup: list[list[str]] = field(default_factory=list)
    """Commands that run once, in order, before any component."""

    def write(self, path: Path) -> None:
        """Keep the plan as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(path: Path) -> Plan:
        """The plan in a file."""
        raw = json.loads(path.read_text())
        components = [Component(**each) for each in raw.pop("components")]
        return Plan(components=components, **raw)


class _Running:
    """One component and its present process."""

    def __init__(self, component: Component, logs: Path) -> None:
        self.component = component
        self.wanted = True
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = -1
        self.next_start = 0.0
        self._log = logs / f"{component.name}.log"

    def start(self) -> None:
        self.restarts += 1
        self.next_start = time.monotonic() + (_RESTART_SECONDS if self.restarts < 20 else _SLOW_RESTART_SECONDS)
        with self._log.open("ab") as log:
            if self.restarts:
                log.write(f"--- supervisor: start {self.restarts + 1}\n".encode())
                log.flush()
            self.process = subprocess.Popen(
                self.component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.component.environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def describe(self) -> dict[str, object]:
        return {
            "name": self.component.name,
            "running": self.process is not None,
            "wanted": self.wanted,
            "restarts": max(self.restarts, 0),
        }


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Supervisor:
    """Keeps every component of a plan running until it is told to stop."""

    def __init__(self, plan: Plan, lifeline: int | None) -> None:
        self._running = {each.name: _Running(each, Path(plan.logs)) for each in plan.components}
        self._lifeline = lifeline
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(plan.socket).unlink(missing_ok=True)
        self._server.bind(plan.socket)
        self._server.listen()

    def run(self) -> None:
        """Until a signal, the word `stop`, or the lifeline's end."""
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: _drain(woken))
        self._selector.register(self._server, selectors.EVENT_READ, self._answer)
        if self._lifeline is not None:
            self._selector.register(self._lifeline, selectors.EVENT_READ, self._stop)
        while not self._stopping:
            self._reap()
            self._start_what_is_wanted()
            for key, _ in self._selector.select(timeout=0.1 if self._any_down() else 30):
                action: Callable[[], None] = key.data
                action()
        self._terminate()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _any_down(self) -> bool:
        return any(each.wanted and each.process is None for each in self._running.values())

    def _start_what_is_wanted(self) -> None:
        now = time.monotonic()
        for each in self._running.values():
            if each.wanted and each.process is None and now >= each.next_start:
                each.start()

    def _reap(self) -> None:
        """Also of processes that are no children by birth: the first process of a namespace inherits orphans."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for each in self._running.values():
                if each.process is not None and each.process.pid == pid:
                    each.process.returncode = 0
                    each.process = None

    def _terminate(self) -> None:
        """At once: nothing that they hold is used again."""
        for each in self._running.values():
            each.wanted = False
        self._signal_all(signal.SIGKILL)
        while any(each.process for each in self._running.values()):
            self._reap()
            time.sleep(0.005)

    def _signal_all(self, number: signal.Signals) -> None:
        for each in self._running.values():
            if each.process is not None:
                os.kill(each.process.pid, number)

    def _answer(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.settimeout(2)
            try:
                words = connection.recv(4096).decode().split()
                connection.sendall(json.dumps(self._obey(words)).encode())
            except (OSError, ValueError, KeyError, IndexError) as problem:
                print(f"supervisor: a request failed: {problem!r}", flush=True)

    def _obey(self, words: list[str]) -> object:
        """`status`, `stop`, or what is to happen to one component: `halt`, `resume`, `kill` and its name."""
        match words:
            case ["status"]:
                return [each.describe() for each in self._running.values()]
            case ["stop"]:
                self._stop()
                return "stopping"
            case ["halt" | "resume" | "kill" as verb, name]:
                chosen = self._running[name]
                chosen.wanted = verb != "halt"
                if verb != "resume" and chosen.process is not None:
                    os.kill(chosen.process.pid, signal.SIGKILL)
                return chosen.describe()
        raise ValueError(f"not understood: {words}")


def _drain(descriptor: int) -> None:
    while True:
        try:
            if not os.read(descriptor, 512):
                return
        except BlockingIOError:
            return


def main() -> None:
    """Run the plan named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=Path)
    parser.add_argument("--lifeline", type=int, help="a descriptor: when its other end closes, stop")
    arguments = parser.parse_args()
    plan = Plan.read(arguments.plan)
    for command in plan.setup:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"supervisor: {' '.join(command)} failed with {done.returncode}")
    Supervisor(plan, arguments.lifeline).run()


if __name__ == "__main__":
    main()
