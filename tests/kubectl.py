"""kubectl as tests and the demo use it: the person's own tool, with results as Python values."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

Object = dict[str, Any]
T = TypeVar("T")


class KubectlError(AssertionError):
    """kubectl said no; the message is its standard error."""


class NotInTime(AssertionError):
    """A condition did not come about in time."""


@dataclasses.dataclass(frozen=True)
class Kubectl:
    """kubectl, bound to one cluster."""

    binary: Path
    kubeconfig: Path
    options: tuple[str, ...] = ()

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Runs kubectl; returns its standard output. Raises KubectlError with what it said."""
        command = [str(self.binary), f"--kubeconfig={self.kubeconfig}", *self.options, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def refusal(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl says when it is refused; fails if it is not."""
        try:
            out = self.run(*arguments, stdin=stdin)
        except KubectlError as refused:
            return str(refused)
        raise AssertionError(f"kubectl {' '.join(arguments)} was not refused: {out}")

    def shown(self, *arguments: str) -> str:
        """A command and whatever came of it, for the report of a failing test; never raises for kubectl's sake."""
        command = [str(self.binary), f"--kubeconfig={self.kubeconfig}", *self.options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return f"$ kubectl {' '.join(arguments)}\n{done.stdout[-6000:]}{done.stderr}"

    def apply(self, *objects: Object, **run: Any) -> str:
        """Applies objects as `kubectl apply -f -` does."""
        return self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(objects), **run)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None where there is none."""
        place = ("-n", namespace) if namespace else ()
        out = self.run("get", kind, name, *place, "-o", "json", "--ignore-not-found")
        return json.loads(out) if out.strip() else None

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """The objects of a kind, of one namespace or of all."""
        place = ("-n", namespace) if namespace else ("-A",)
        chosen = ("-l", selector) if selector else ()
        items: list[Object] = json.loads(self.run("get", kind, *place, *chosen, "-o", "json"))["items"]
        return items

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        """Deletes an object if it is there."""
        place = ("-n", namespace) if namespace else ()
        self.run("delete", kind, name, *place, "--ignore-not-found", f"--wait={str(wait).lower()}")


def eventually(look: Callable[[], T], holds: Callable[[T], bool], *, what: str, seconds: float = 120) -> T:
    """Looks again and again until `holds`; returns what it saw then. Raises NotInTime with what it saw last."""
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen):
            return seen
        if time.monotonic() > until:
            raise NotInTime(f"not within {seconds:.0f} s: {what}; seen last:\n{_shown(seen)}")
        time.sleep(0.3)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        value = {k: v for k, v in value.items() if k != "managedFields"}
        return yaml.safe_dump(value, allow_unicode=True)[:6000]
    return str(value)[:6000]


def condition(resource: Object | None, kind: str) -> Object:
    """A condition of a resource's status by its type, or an empty one."""
    conditions = ((resource or {}).get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})
