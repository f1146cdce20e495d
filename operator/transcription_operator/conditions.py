"""Conditions: set without losing their transition times, compared to find what is worth an event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from transcription_operator import times

READY = "Ready"
VERIFIED = "Verified"
EVICTION_DUE = "EvictionDue"
MODEL_READY = "ModelReady"
STARTED = "Started"
SUSPENDED = "Suspended"
COMPLETE = "Complete"
FAILED = "Failed"

_ORDER = (READY, VERIFIED, EVICTION_DUE, MODEL_READY, STARTED, SUSPENDED, COMPLETE, FAILED)
_MESSAGE_LIMIT = 2048

Condition = Mapping[str, Any]


class Conditions:
    """A resource's conditions on their way from the observed to the wanted."""

    def __init__(self, existing: Iterable[Condition], *, generation: int, now: datetime) -> None:
        self._by_type: dict[str, dict[str, Any]] = {c["type"]: dict(c) for c in existing}
        self._generation = generation
        self._now = now

    def set(self, kind: str, value: bool, reason: str, message: str) -> None:
        """Set one condition; its time moves only when its status does."""
        status = "True" if value else "False"
        before = self._by_type.get(kind)
        moved = before is None or before.get("status") != status
        time = times.render(self._now) if moved or before is None else before["lastTransitionTime"]
        self._by_type[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": _cut(message),
            "lastTransitionTime": time,
            "observedGeneration": self._generation,
        }

    def remove(self, kind: str) -> None:
        """There is nothing to say of it any more."""
        self._by_type.pop(kind, None)

    def get(self, kind: str) -> Condition | None:
        """One condition, or None."""
        return self._by_type.get(kind)

    def reason(self, kind: str) -> str | None:
        """One condition's reason, or None."""
        return self._by_type.get(kind, {}).get("reason")

    def as_list(self) -> list[dict[str, Any]]:
        """All of them, in the order of a model's, and of a job's life."""
        known = [self._by_type[kind] for kind in _ORDER if kind in self._by_type]
        return known + [c for kind, c in sorted(self._by_type.items()) if kind not in _ORDER]


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"


def find(conditions: Iterable[Condition], kind: str) -> Condition:
    """One condition, empty where there is none."""
    return next((c for c in conditions if c.get("type") == kind), {})


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether a condition is there and True."""
    return find(conditions, kind).get("status") == "True"


@dataclass(frozen=True)
class Transition:
    """A condition that changed its status or its reason."""

    type: str
    status: str
    reason: str
    message: str
    time: str


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> list[Transition]:
    """What an event is due for. A message that merely reads differently is none."""
    known = {c["type"]: (c.get("status"), c.get("reason")) for c in before}
    return [
        Transition(c["type"], c["status"], c["reason"], c["message"], c["lastTransitionTime"])
        for c in after
        if known.get(c["type"]) != (c["status"], c["reason"])
    ]
