"""Reads from the API server all that a decision about a WhisperModel needs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from transcription_operator import api as k8s
from transcription_operator import models, names, observe, resolve, times, volume_trouble
from transcription_operator.api import Api, Object
from transcription_operator.errors import SpecError
from transcription_operator.receipt import Failure
from transcription_operator.settings import Settings
from transcription_operator.views import created_at, failure_of, job_view, latest
from transcription_operator.whispermodel import report, retention
from transcription_operator.whispermodel.spec import HubSource, ModelSpec
from transcription_operator.whispermodel.views import ObservedModel, Retention, Sibling, Usage, model_view

_USE_STEP = timedelta(hours=1)
_RUNNERS = f"{names.LABEL_COMPONENT}=runner"


def observe_model(api: Api, name: str, settings: Settings) -> ObservedModel | None:
    """Read all that a decision needs; None if the resource is gone."""
    found = api.get(k8s.WHISPER_MODELS, name)
    if found is None:
        return None
    observed = model_view(found)
    spec = observed.spec
    if isinstance(spec, SpecError):
        return observed
    observed = _with_job(api, observed, spec, settings)
    every = list(api.list(k8s.WHISPER_MODELS))
    days = settings.retention.unused_days if spec.unused_days is None else spec.unused_days
    observed = replace(
        observed,
        siblings=tuple(_siblings(observed, spec, every)),
        retention=Retention(days, settings.retention.dry_run),
    )
    return replace(observed, usage=_usage(api, observed, every))


def _with_job(api: Api, observed: ObservedModel, spec: ModelSpec, settings: Settings) -> ObservedModel:
    namespace = settings.namespace
    job_object = api.get(k8s.JOBS, names.model_job_name(spec.ref.repo, spec.ref.revision), namespace)
    if job_object is None:
        return observed
    job = job_view(job_object)
    observed = replace(observed, job=job)
    if job.deleting:
        return observed
    pods = observe.pods_of(api, namespace, job)
    pod = latest(pods)
    if job.ended:
        ended = latest(p for p in pods if p.ended) or pod
        failure = failure_of(ended) if job.ended == "Failed" else None
        if job.ended == "Failed" and failure is None:
            failure = Failure("Temporary", job.message or job.reason or "its pod is gone, and with it the reason")
        return replace(observed, report=report.parse(ended.message if ended else ""), failure=failure)
    message = ""
    if pod and pod.trouble:
        message = f"Its pod does not start: {pod.trouble.message}"
    elif warnings := observe.observe_warnings(api, namespace, job, pods):
        words = "; ".join(warnings)
        trouble = volume_trouble.explain(words)
        message = f"Its pod does not start: {words}" + (f" {trouble.advice}" if trouble else "")
    elif pod and pod.failure:
        message = f"The attempt before ended with {pod.failure.name}: {pod.failure}"
    return replace(observed, message=message)


def _siblings(observed: ObservedModel, spec: ModelSpec, every: Sequence[Object]) -> list[Sibling]:
    """Others of the same repository whose revision, or whose commit, is the same."""
    if not isinstance(spec.source, HubSource):
        return []
    found = []
    for item in every:
        other = model_view(item)
        if other.uid == observed.uid or other.deleting or isinstance(other.spec, SpecError):
            continue
        if not isinstance(other.spec.source, HubSource) or other.spec.ref.repo != spec.ref.repo:
            continue
        commit = observed.status.get("commit")
        same = other.spec.ref == spec.ref
        if same or (commit and commit == other.status.get("commit")):
            facts = {key: other.status[key] for key in ("commit", "bytes", "files") if key in other.status}
            found.append(Sibling(other.name, same and other.phase == "Ready", facts))
    return found


def _usage(api: Api, observed: ObservedModel, every: Sequence[Object]) -> Usage:
    selectors = [f"{use}={observed.name},{_RUNNERS}" for use in (names.LABEL_MODEL, names.LABEL_ADAPTER)]
    active, last = [], None
    # The API server can leave out those that have succeeded: of a busy cluster's Jobs these are most.
    unfinished = (api.list(k8s.JOBS, labels=each, fields="status.successful=0") for each in selectors)
    for item in itertools.chain.from_iterable(unfinished):
        job = job_view(item)
        if not job.ended:
            meta = item["metadata"]
            active.append(f"{meta['namespace']}/{job.annotation(names.ANNOTATION_JOB) or job.name}")
            last = observed.now
    known = times.parse(observed.status.get("lastUsed"))
    if last is None and (known is None or observed.now - known >= _USE_STEP):
        last = _newest(api, selectors)
    usage = Usage(tuple(sorted(active)), last)
    current = {**observed.status, "lastUsed": times.render(last) if last else observed.status.get("lastUsed")}
    due = retention.is_due(current, observed.retention.days, observed.now)
    leaving = observed.phase == "Evicted"
    if due or leaving:
        usage = replace(usage, awaited=_is_awaited(api, observed.name, every))
    return usage


def _newest(api: Api, selectors: Sequence[str]) -> datetime | None:
    items = itertools.chain.from_iterable(api.list(k8s.JOBS, labels=each, metadata_only=True) for each in selectors)
    return max((created_at(item["metadata"]["creationTimestamp"]) for item in items), default=None)


def _wishes(spec: Object) -> list[models.ModelWish]:
    try:
        adapter = [models.parse_adapter(spec["adapter"])] if spec.get("adapter") else []
        return [models.parse(spec.get("model") or ""), *adapter]
    except SpecError:
        return []


def _is_awaited(api: Api, name: str, every: Sequence[Object]) -> bool:
    for item in api.list(k8s.TRANSCRIPTION_JOBS, labels=f"{names.LABEL_FINISHED}!=true"):
        for wish in _wishes(item.get("spec") or {}):
            found = resolve.find(wish, every)
            if found is not None and found["metadata"]["name"] == name:
                return True
    return False
