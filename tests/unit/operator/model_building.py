"""Builders for WhisperModels: `a_model().that_is_ready().unused_for(40).observed()`."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.unit.operator.building import NOW
from transcription_operator import names, times
from transcription_operator.receipt import Failure
from transcription_operator.views import JobView
from transcription_operator.whispermodel.decide import Plan
from transcription_operator.whispermodel.report import Report
from transcription_operator.whispermodel.views import ObservedModel, Retention, Sibling, Task, Usage, model_view

JOB = names.model_job_name("openai/whisper-base", "main")


class a_model:  # noqa: N801  (read: "a model that ...")
    """A WhisperModel and the world around it."""

    def __init__(self, name: str = "base", **source: Any) -> None:
        self.manifest: dict[str, Any] = {
            "apiVersion": names.API_VERSION,
            "kind": names.MODEL_KIND,
            "metadata": {
                "name": name,
                "uid": "uid-of-" + name,
                "generation": 1,
                "resourceVersion": "7",
                "creationTimestamp": "2026-11-22T11:00:00Z",
                "finalizers": [names.FINALIZER],
            },
            "spec": {"source": source or {"hub": {"repo": "openai/whisper-base", "revision": "main"}}},
        }
        self._fields: dict[str, Any] = {}
        self._now = NOW

    # the resource

    def without_finalizer(self) -> a_model:
        del self.manifest["metadata"]["finalizers"]
        return self

    def made_by_the_operator(self) -> a_model:
        self.manifest["metadata"]["labels"] = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
        return self

    def annotated(self, name: str, value: str) -> a_model:
        self.manifest["metadata"].setdefault("annotations", {})[name] = value
        return self

    def changed(self) -> a_model:
        self.manifest["metadata"]["generation"] += 1
        return self

    def being_deleted(self) -> a_model:
        self.manifest["metadata"]["deletionTimestamp"] = "2026-11-22T11:59:00Z"
        return self

    def with_status(self, **status: Any) -> a_model:
        self.manifest.setdefault("status", {}).update(status)
        return self

    def that_is(self, phase: str, reason: str, **status: Any) -> a_model:
        ready = {
            "type": "Ready",
            "status": str(phase == "Ready"),
            "reason": reason,
            "message": "",
            "lastTransitionTime": "2026-09-01T00:00:00Z",
        }
        return self.with_status(phase=phase, conditions=[ready], jobName=JOB, lastJob="old-job", **status)

    def that_is_ready(self, **status: Any) -> a_model:
        return self.that_is("Ready", "Ready", **{"commit": "c0ffee", "bytes": 290, "files": 9, "repairs": 0, **status})

    # the world

    def with_job(self, task: Task = Task.DOWNLOAD, **fields: Any) -> a_model:
        annotations = {
            names.ANNOTATION_MODEL: "openai/whisper-base@main",
            names.ANNOTATION_TASK: task.value,
            names.ANNOTATION_RETRIES: str(fields.pop("retries", 0)),
            names.ANNOTATION_REPAIRS: str(fields.pop("repairs", 0)),
        }
        view = JobView(name=JOB, uid="job-uid", created=NOW - timedelta(minutes=5), annotations=annotations)
        self._fields["job"] = replace(view, **fields)
        return self

    def with_complete_job(self, task: Task = Task.DOWNLOAD, **fields: Any) -> a_model:
        report = (
            Report(commit="c0ffee", bytes=290, files=9, downloaded_bytes=290)
            if task is not Task.REMOVE
            else Report(removed_bytes=290)
        )
        self._fields["report"] = report
        return self.with_job(task, ended="Complete", ended_at=NOW, **fields)

    def with_failed_job(
        self, error_class: str, message: str = "in words. Do this.", *, task: Task = Task.DOWNLOAD, reason: str = "",
        **fields: Any,
    ) -> a_model:  # fmt: skip
        self._fields["failure"] = Failure(error_class, message, reason=reason or None)
        return self.with_job(task, ended="Failed", **{"ended_at": NOW, **fields})

    def found_there_already(self) -> a_model:
        self._fields["report"] = replace(self._fields["report"], downloaded_bytes=0)
        return self

    def saying(self, message: str) -> a_model:
        self._fields["message"] = message
        return self

    def used_by(self, *jobs: str) -> a_model:
        self._fields["usage"] = Usage(jobs, NOW if jobs else None)
        return self

    def used_at(self, moment: datetime) -> a_model:
        self._fields["usage"] = Usage((), moment)
        return self

    def awaited(self) -> a_model:
        self._fields["usage"] = Usage((), None, awaited=True)
        return self

    def beside(self, *siblings: Sibling) -> a_model:
        self._fields["siblings"] = siblings
        return self

    def unused_for(self, days: int) -> a_model:
        return self.with_status(lastUsed=times.render(NOW - timedelta(days=days)))

    def kept_for(self, days: int, *, dry_run: bool = False) -> a_model:
        self._fields["retention"] = Retention(days, dry_run)
        return self

    def after(self, plan: Plan) -> a_model:
        """The same world once a plan's status has been written."""
        if plan.status is not None:
            self.manifest["status"] = copy.deepcopy(dict(plan.status))
        return self

    def at(self, moment: datetime) -> a_model:
        self._now = moment
        return self

    def observed(self) -> ObservedModel:
        return replace(model_view(copy.deepcopy(self.manifest)), now=self._now, **self._fields)
