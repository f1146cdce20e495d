"""Reads from the API server all that a decision needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from transcription_operator import api as k8s
from transcription_operator import names, times, volume_trouble
from transcription_operator.api import Api
from transcription_operator.errors import SpecError
from transcription_operator.models import ModelRef
from transcription_operator.receipt import Failure
from transcription_operator.settings import Settings
from transcription_operator.views import (
    JobView,
    ModelState,
    Observed,
    PodView,
    failure_of,
    job_view,
    latest,
    pod_view,
    resource_view,
)

_SILENT_WAIT = timedelta(seconds=10)
"""How long a pod may say nothing before its events are asked for."""


def _pods(api: Api, namespace: str, job: JobView) -> list[PodView]:
    selector = f"batch.kubernetes.io/controller-uid={job.uid}"
    return [pod_view(pod) for pod in api.list(k8s.PODS, namespace, labels=selector)]


def _event_words(api: Api, namespace: str, uid: str) -> list[str]:
    events = api.list(k8s.CORE_EVENTS, namespace, fields=f"involvedObject.uid={uid},type=Warning")
    texts = [f"{e.get('reason')}: {e.get('message')}" for e in events]
    return list(dict.fromkeys(texts))[-2:]


def observe_warnings(api: Api, namespace: str, job: JobView, pods: Sequence[PodView]) -> list[str]:
    """Ask for events where nothing else says what is the matter."""
    now = times.now()
    if job.ended or job.suspended or job.deleting:
        return []
    if not pods and now - job.created > timedelta(seconds=2):
        return _event_words(api, namespace, job.uid)
    pod = latest(pods)
    if pod and pod.silent and now - pod.created > _SILENT_WAIT:
        return _event_words(api, namespace, pod.uid)
    return []


def observe_model(api: Api, model: ModelRef, settings: Settings) -> ModelState:
    """The state of a model: for now that of its download Job."""
    namespace = settings.namespace
    name = names.download_job_name(model.repo, model.revision)
    where = f"{namespace}/{name}"
    found = api.get(k8s.JOBS, name, namespace)
    if found is None:
        return ModelState("Absent", where)
    job = job_view(found)
    if job.annotation(names.ANNOTATION_MODEL) != str(model):
        message = (
            f"A Job {where} exists that the operator did not make for {model}; delete it, or give it another name."
        )
        return ModelState("Conflict", where, job.uid, message)
    if job.deleting:
        return ModelState("Downloading", where, job.uid, "An earlier download Job is being deleted.")
    if job.ended == "Complete":
        return ModelState("Ready", where, job.uid)
    pods = _pods(api, namespace, job)
    pod = latest(pods)
    if job.ended == "Failed":
        ended = latest(p for p in pods if p.ended) or pod
        retries = job.annotation(names.ANNOTATION_RETRIES) or "0"
        return ModelState(
            "Failed",
            where,
            job.uid,
            failure=failure_of(ended) or Failure("Temporary", job.message or job.reason),
            failed_at=job.ended_at or job.created,
            retries=int(retries) if retries.isdecimal() else 0,
        )
    message = ""
    if pod and pod.trouble:
        message = f"Its pod does not start: {pod.trouble.message}"
    elif warnings := observe_warnings(api, namespace, job, pods):
        words = "; ".join(warnings)
        advice = volume_trouble.explain(words)
        message = f"Its pod does not start: {words}" + (f" {advice.advice}" if advice else "")
    elif pod and pod.failure:
        message = f"The attempt before ended with {pod.failure.error_class}: {pod.failure}"
    return ModelState("Downloading", where, job.uid, message)


def observe(api: Api, namespace: str, name: str, settings: Settings) -> Observed | None:
    """Read all that a decision needs; None if the resource is gone."""
    found = api.get(k8s.TRANSCRIPTION_JOBS, name, namespace)
    if found is None:
        return None
    observed = resource_view(found)
    spec = observed.spec
    if observed.deleting or observed.finished or isinstance(spec, SpecError):
        return observed
    job_object = api.get(k8s.JOBS, observed.job_name, namespace)
    if job_object is not None:
        job = job_view(job_object)
        if job.owner_uid == observed.uid:
            pods = _pods(api, namespace, job)
            observed = replace(observed, job=job, pods=pods, warnings=observe_warnings(api, namespace, job, pods))
        else:
            observed = replace(observed, job=job)
    if spec.fresh:
        observed = replace(observed, model=ModelState("NotNeeded"))
    elif spec.model in settings.baked_models:
        observed = replace(observed, model=ModelState("Baked"))
    elif not settings.cache.shared:
        observed = replace(observed, model=ModelState("NoVolume"))
    elif observed.job is None or observed.job.ended == "Failed":
        observed = replace(observed, model=observe_model(api, spec.model, settings))
    if observed.job and observed.job.ended == "Complete":
        # The result was written before the pod ended, but perhaps after this resource was read.
        again = api.get(k8s.TRANSCRIPTION_JOBS, name, namespace)
        if again is None or again["metadata"]["uid"] != observed.uid:
            return None
        fresh = resource_view(again)
        observed = replace(
            fresh, job=observed.job, pods=observed.pods, model=observed.model, warnings=observed.warnings
        )
    return observed
