"""Builders that make a test read like a sentence: `a_job("x").of_model("base").suspended().observed()`."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from transcription_operator import names, receipt
from transcription_operator.decide import Plan
from transcription_operator.receipt import Failure, Receipt
from transcription_operator.settings import Settings
from transcription_operator.settings import parse as parse_settings
from transcription_operator.views import JobView, ModelState, Observed, PodView, resource_view

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
RESULT = {
    "text": " Hello.",
    "language": "en",
    "segments": [{"id": 0, "start": 0.0, "end": 1.5, "text": " Hello.", "tokens": [1, 2]}],
}
MODEL = "openai-whisper-base-42b13855"


def settings(**changes: Any) -> Settings:
    document: dict[str, Any] = {
        "namespace": "transcription-system",
        "runnerImage": "transcription-runner:1",
        "cache": {"size": "10Gi", "volume": {"hostPath": {"path": "/srv/transcription"}}},
        "runner": {
            "resources": {
                "requests": {"cpu": "1", "memory": "4Gi"},
                "limits": {"memory": "16Gi", "nvidia.com/gpu": 1},
            }
        },
    }
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            document[key] = {**document[key], **value}
        else:
            document[key] = value
    return parse_settings(document)


class a_job:  # noqa: N801  (read: "a job that ...")
    """A TranscriptionJob and the world around it."""

    def __init__(self, name: str = "interview", namespace: str = "team-a") -> None:
        self.manifest: dict[str, Any] = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": "uid-of-" + name,
                "generation": 1,
                "resourceVersion": "7",
                "creationTimestamp": "2026-11-22T11:00:00Z",
            },
            "spec": {"audio": {"url": "s3://bucket/interview.mp3"}, "model": "base"},
        }
        self._model = ModelState("Ready", MODEL, "model-uid", argument="openai/whisper-base")
        self._adapter = ModelState("NotNeeded")
        self._job: JobView | None = None
        self._pods: list[PodView] = []
        self._warnings: list[str] = []
        self._now = NOW

    # the resource

    def having(self, **spec: Any) -> a_job:
        self.manifest["spec"].update(spec)
        return self

    def of_model(self, model: str) -> a_job:
        return self.having(model=model)

    def suspended(self) -> a_job:
        return self.having(suspend=True)

    def queued_in(self, queue: str) -> a_job:
        return self.having(queueName=queue)

    def being_deleted(self) -> a_job:
        self.manifest["metadata"]["deletionTimestamp"] = "2026-11-22T11:59:00Z"
        return self

    def labelled_finished(self) -> a_job:
        meta = self.manifest["metadata"]
        meta["labels"] = {names.LABEL_FINISHED: "true"}
        meta["annotations"] = {names.ANNOTATION_GENERATION: str(meta["generation"])}
        return self

    def with_status(self, **status: Any) -> a_job:
        self.manifest.setdefault("status", {}).update(copy.deepcopy(status))
        return self

    def with_condition(self, kind: str, value: bool, reason: str, message: str = "") -> a_job:
        conditions = self.manifest.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [c for c in conditions if c["type"] != kind]
        conditions.append(
            {
                "type": kind,
                "status": str(value),
                "reason": reason,
                "message": message,
                "lastTransitionTime": "2026-11-22T11:30:00Z",
            }
        )
        return self

    def with_result(self, result: object = RESULT) -> a_job:
        return self.with_status(result=result)

    # its model

    def whose_model_is(self, status: str, **fields: Any) -> a_job:
        self._model = replace(ModelState(status, MODEL, "model-uid", argument="openai/whisper-base"), **fields)
        if status == "Absent":
            self._model = replace(self._model, uid=None)
        return self

    def with_adapter(self, status: str = "Ready", **fields: Any) -> a_job:
        self._adapter = replace(ModelState(status, "lora", "lora-uid", argument="owner/lora"), **fields)
        return self.having(adapter="owner/lora")

    def whose_download_failed(
        self, reason: str, message: str = "no such model. Do this.", *, ago: timedelta = timedelta()
    ) -> a_job:
        return self.whose_model_is(
            "Failed", reason=reason, message=message, failed_at=NOW - ago, last_job="download-uid"
        )

    # its Job

    def with_job(self, **fields: Any) -> a_job:
        meta = self.manifest["metadata"]
        view = JobView(
            name=names.runner_job_name(meta["name"], meta["uid"]),
            uid="job-uid",
            created=NOW - timedelta(minutes=5),
            owner_uid=meta["uid"],
            backoff_limit=3,
            annotations={names.ANNOTATION_MODEL_VERSION: "model-uid.0"},
        )
        self._job = replace(view, **fields)
        self.with_status(jobName=view.name)
        return self

    def with_complete_job(self) -> a_job:
        return self.with_job(ended="Complete", ended_at=NOW - timedelta(seconds=1), succeeded=1)

    def with_failed_job(self, reason: str = "PodFailurePolicy", failed: int = 1, message: str = "") -> a_job:
        ended = NOW - timedelta(seconds=1)
        return self.with_job(ended="Failed", ended_at=ended, reason=reason, message=message, failed=failed)

    def with_pod(self, phase: str = "Pending", **fields: Any) -> a_job:
        number = len(self._pods)
        view = PodView(
            name=f"pod-{number}",
            uid=f"pod-uid-{number}",
            phase=phase,
            created=NOW - timedelta(minutes=4 - number),
        )
        self._pods.append(replace(view, **fields))
        return self

    def with_receipt(self, result: object = RESULT, **fields: Any) -> a_job:
        return self.with_pod("Succeeded", receipt=a_receipt(result, **fields))

    def with_failure(self, error_class: str, message: str = "it went wrong", **fields: Any) -> a_job:
        return self.with_pod("Failed", failure=Failure(error_class, message, **fields))

    def with_warning(self, text: str) -> a_job:
        self._warnings.append(text)
        return self

    def after(self, plan: Plan) -> a_job:
        """The same world once a plan's status has been written."""
        status = dict(self.manifest.get("status") or {})
        for own in set(status) - {"result", "progress"}:
            del status[own]
        self.manifest["status"] = {**status, **copy.deepcopy(dict(plan.status or {}))}
        return self

    def at(self, moment: datetime) -> a_job:
        self._now = moment
        return self

    def observed(self) -> Observed:
        return replace(
            resource_view(copy.deepcopy(self.manifest)),
            now=self._now,
            model=self._model,
            adapter=self._adapter,
            job=self._job,
            pods=tuple(self._pods),
            warnings=tuple(self._warnings),
        )


def a_receipt(result: object = RESULT, **fields: Any) -> Receipt:
    base = Receipt(
        digest=receipt.digest(result),
        sha256="ab" * 32,
        bytes=120,
        path="transcripts/team-a/interview/interview.json",
        text=" Hello.",
        language="en",
        duration=4.96,
        segments=1,
        delivered=True,
        timings={"total": 5.0},
    )
    return replace(base, **fields)


def condition(plan: Plan, kind: str) -> dict[str, Any]:
    assert plan.status is not None, "the plan writes no status"
    found = [c for c in plan.status["conditions"] if c["type"] == kind]
    assert found, f"no condition {kind} in {plan.status['conditions']}"
    return found[0]


def state(plan: Plan, kind: str) -> str:
    """A condition as `True/Reason`."""
    found = condition(plan, kind)
    return f"{found['status']}/{found['reason']}"
