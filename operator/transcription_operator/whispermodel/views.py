"""What was seen of a WhisperModel, as frozen views that decisions are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from transcription_operator import names
from transcription_operator.errors import SpecError
from transcription_operator.receipt import Failure
from transcription_operator.views import JobView, Object, Resource, resource_fields
from transcription_operator.whispermodel.report import Report
from transcription_operator.whispermodel.spec import ModelSpec
from transcription_operator.whispermodel.spec import parse as parse_spec


class Task(StrEnum):
    """What a model's Job does."""

    DOWNLOAD = "download"
    REPAIR = "repair"
    VERIFY = "verify"
    REMOVE = "remove"


@dataclass(frozen=True)
class Retention:
    """When this model is to go; 0 days: never."""

    days: int = 0
    dry_run: bool = True


@dataclass(frozen=True)
class Usage:
    """Who uses it."""

    jobs: Sequence[str] = ()
    """Runner Jobs that have not ended, as `namespace/name` of their TranscriptionJobs."""
    last: datetime | None = None
    awaited: bool = False
    """A TranscriptionJob that has not ended names it."""


@dataclass(frozen=True)
class Sibling:
    """Another WhisperModel with the same files."""

    name: str
    ready: bool = False
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ObservedModel(Resource):
    """Everything that a decision about a WhisperModel depends on."""

    spec: ModelSpec | SpecError
    finalizers: Sequence[str] = ()
    job: JobView | None = None
    """The Job that works, or has worked, on its files."""
    report: Report = field(default_factory=Report)
    failure: Failure | None = None
    message: str = ""
    """Why the Job's pod does not start, or how the attempt before ended."""
    usage: Usage = Usage()
    siblings: Sequence[Sibling] = ()
    retention: Retention = Retention()

    @property
    def phase(self) -> str:
        """Its phase; Pending before there is any."""
        return str(self.status.get("phase") or "Pending")

    @property
    def held_up(self) -> str | None:
        """Why its Job takes long."""
        return held_up(self.status)

    @property
    def version(self) -> str:
        """What a runner relies on: it changes with each repair."""
        return names.model_version(self.uid, self.status.get("repairs"))

    @property
    def made_by_operator(self) -> bool:
        """For a TranscriptionJob, and by nobody's wish of its own."""
        return self.labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY


def held_up(status: Mapping[str, Any]) -> str | None:
    """What a WhisperModel's Job says that it is held up by: a condition's reason."""
    return (status.get("progress") or {}).get("reason")


def model_view(found: Object) -> ObservedModel:
    """Read the WhisperModel itself."""
    meta = found["metadata"]
    spec: ModelSpec | SpecError
    try:
        spec = parse_spec(meta["name"], found.get("spec") or {})
    except SpecError as error:
        spec = error
    return ObservedModel(spec=spec, finalizers=tuple(meta.get("finalizers") or ()), **resource_fields(found))
