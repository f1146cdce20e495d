"""Reads from the API server all that a decision needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from transcription_operator import api as k8s
from transcription_operator import resolve, times
from transcription_operator.api import Api
from transcription_operator.errors import SpecError
from transcription_operator.models import ModelWish
from transcription_operator.settings import Settings
from transcription_operator.spec import Spec
from transcription_operator.views import (
    JobView,
    ModelState,
    Object,
    Observed,
    PodView,
    job_view,
    latest,
    pod_view,
    resource_view,
)

_SILENT_WAIT = timedelta(seconds=10)
"""How long a pod may say nothing before its events are asked for."""


def pods_of(api: Api, namespace: str, job: JobView) -> list[PodView]:
    """The pods of a Job."""
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


def _observe_models(api: Api, observed: Observed, spec: Spec, settings: Settings) -> Observed:
    """What the WhisperModels say about a job's model and its adapter."""
    every: list[Object] | None = None

    def state(wish: ModelWish) -> ModelState:
        nonlocal every
        if not spec.fresh and (without_cache := resolve.without_cache(wish, settings)):
            return without_cache
        every = list(api.list(k8s.WHISPER_MODELS)) if every is None else every
        return (resolve.fresh if spec.fresh else resolve.state)(wish, every, settings.models)

    observed = replace(observed, model=state(spec.model))
    return replace(observed, adapter=state(spec.adapter)) if spec.adapter else observed


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
            pods = pods_of(api, namespace, job)
            observed = replace(observed, job=job, pods=pods, warnings=observe_warnings(api, namespace, job, pods))
        else:
            observed = replace(observed, job=job)
    if observed.job is None or observed.job.ended == "Failed":
        observed = _observe_models(api, observed, spec, settings)
    if observed.job and observed.job.ended == "Complete":
        # The result was written before the pod ended, but perhaps after this resource was read.
        again = api.get(k8s.TRANSCRIPTION_JOBS, name, namespace)
        if again is None or again["metadata"]["uid"] != observed.uid:
            return None
        fresh = resource_view(again)
        observed = replace(
            fresh,
            job=observed.job,
            pods=observed.pods,
            model=observed.model,
            adapter=observed.adapter,
            warnings=observed.warnings,
        )
    return observed
