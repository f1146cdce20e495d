"""When a model that nobody uses is due to go."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from transcription_operator import conditions, times
from transcription_operator.conditions import READY


def unused_since(status: Mapping[str, Any]) -> datetime | None:
    """The last use, or when the model became Ready if nobody has used it yet."""
    ready = conditions.find(status.get("conditions") or [], READY)
    moments = [times.parse(status.get("lastUsed")), times.parse(ready.get("lastTransitionTime"))]
    return max((moment for moment in moments if moment), default=None)


def due_at(status: Mapping[str, Any], days: int) -> datetime | None:
    """When it is due; None if never: retention is off, or there is nothing to remove."""
    since = unused_since(status)
    if not days or since is None or not conditions.is_true(status.get("conditions") or [], READY):
        return None
    return since + timedelta(days=days)


def is_due(status: Mapping[str, Any], days: int, now: datetime) -> bool:
    """Whether its time is over, as far as times tell."""
    due = due_at(status, days)
    return due is not None and due <= now
