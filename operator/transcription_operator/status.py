"""Writes a status, once for each difference, and tells of its transitions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transcription_operator import conditions, events, names
from transcription_operator.api import Api, Kind
from transcription_operator.conditions import Condition

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A resource with a status that the operator shares with somebody."""

    kind: Kind
    kind_name: str
    namespace: str | None
    name: str
    uid: str
    resource_version: str
    status: Mapping[str, Any]
    others: tuple[str, ...]
    """Parts of the status that somebody else writes."""

    @property
    def conditions(self) -> list[Condition]:
        """The conditions as they are."""
        return list(self.status.get("conditions") or [])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else f"{self.kind_name.lower()}/{self.name}"


def _is_new(subject: Subject, status: Mapping[str, Any]) -> bool:
    ours = {key: value for key, value in subject.status.items() if key not in subject.others}
    theirs = {key: value for key, value in status.items() if key in subject.others}
    wanted = {key: value for key, value in status.items() if key not in subject.others}
    return ours != wanted or any(subject.status.get(key) != value for key, value in theirs.items())


def write(api: Api, subject: Subject, status: Mapping[str, Any] | None, *, only_as_read: bool = False) -> bool:
    """Apply a status if it differs, and post its transitions; False if there was nothing to write.

    With `only_as_read` the write fails if the resource has changed since it was read.
    """
    if status is None or not _is_new(subject, status):
        return False
    metadata: dict[str, Any] = {"name": subject.name, "uid": subject.uid}
    if subject.namespace:
        metadata["namespace"] = subject.namespace
    if only_as_read:
        metadata["resourceVersion"] = subject.resource_version
    body = {
        "apiVersion": names.API_VERSION,
        "kind": subject.kind_name,
        "metadata": metadata,
        "status": dict(status),
    }
    api.apply_status(subject.kind, body, subject.namespace, subject.name)
    changes = conditions.transitions(subject.conditions, status.get("conditions") or [])
    for change in changes:
        _log.info("%s: %s=%s/%s: %s", subject, change.type, change.status, change.reason, change.message)
    regarding = events.Regarding(
        subject.kind_name, subject.namespace, subject.name, subject.uid, subject.resource_version
    )
    events.post(api, regarding, changes)
    return True
