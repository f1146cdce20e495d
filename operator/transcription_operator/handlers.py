"""kopf's part: watch, and turn events into keys. Nothing is ever written to an object by kopf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf
from kubernetes.client import Configuration

from transcription_operator import names
from transcription_operator.api import load_configuration
from transcription_operator.health import Health
from transcription_operator.keys import AnyKey, Key, ModelKey
from transcription_operator.queue import WorkQueue
from transcription_operator.sweeper import UNFINISHED
from transcription_operator.waiters import Waiters
from transcription_operator.whispermodel.views import held_up

_USE_DELAY = 5.0
"""Seconds between a runner Job's event and the count of its model's users: many events are one count."""
MANAGED = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"


def job_of(meta: Mapping[str, Any]) -> Key | None:
    """Which TranscriptionJob a Job or a pod belongs to."""
    name = (meta.get("annotations") or {}).get(names.ANNOTATION_JOB)
    return Key(meta["namespace"], name) if name else None


def model_job_of(meta: Mapping[str, Any]) -> str | None:
    """Which model's Job a Job, or a pod of one, stands for."""
    labels = meta.get("labels") or {}
    if labels.get(names.LABEL_COMPONENT) != "download":
        return None
    return labels.get("batch.kubernetes.io/job-name") or str(meta["name"])


def model_mark(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a WhisperModel concerns those who wait for it: not every step of a download, which comes each second."""
    status = body.get("status") or {}
    conditions = [(c.get("type"), c.get("status"), c.get("reason")) for c in status.get("conditions") or []]
    percent = int((status.get("progress") or {}).get("percent") or 0)
    return status.get("phase"), repr(conditions), status.get("repairs"), percent // 10


def _of_a_model(meta: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a WhisperModel concerns itself, besides its spec."""
    return repr(meta.get("annotations")), repr(meta.get("finalizers")), held_up(body.get("status") or {})


class News:
    """Tells a changed spec from a changed status: runners report progress every few seconds, and the operator's own
    writes come back as well. Nothing is lost by leaving those out: Jobs and pods have events of their own."""

    def __init__(self) -> None:
        self._seen: dict[AnyKey, tuple[Any, ...]] = {}

    def is_news(self, key: AnyKey, meta: Mapping[str, Any], *more: Any) -> bool:
        """Whether this is anything but a change of status since the last time; `more` of it may count as well."""
        mark = (meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp"), repr(meta.get("labels")), *more)
        before, self._seen[key] = self._seen.get(key), mark
        return before != mark

    def forget(self, key: AnyKey) -> None:
        """It is out of the watch."""
        self._seen.pop(key, None)


def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """kopf's credentials out of the client's, so that both reach the same server as the same user."""
    header = configuration.get_api_key_with_prefix("BearerToken") or configuration.get_api_key_with_prefix(
        "authorization"
    )
    scheme, _, token = header.rpartition(" ") if header else ("", "", "")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def build(
    *,
    queue: WorkQueue[AnyKey],
    for_models: Waiters[Key],
    for_jobs: Waiters[ModelKey],
    operator_namespace: str,
    health: Health,
    kubeconfig: str | None = None,
) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="login", retries=10, backoff=2.0)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(load_configuration(kubeconfig))

    @kopf.on.startup(registry=registry, id="startup")
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        health.started()

    news = News()

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def on_resource(type: str | None, meta: Mapping[str, Any], **_: Any) -> None:
        key = Key(meta["namespace"], meta["name"])
        if type == "DELETED":  # or finished, and so out of the watch: there is nothing more to do
            news.forget(key)
        elif news.is_news(key, meta):
            queue.add(key)

    waiting_news = News()

    @kopf.on.event(names.GROUP, names.VERSION, names.MODEL_PLURAL, registry=registry)
    async def on_model(type: str | None, meta: Mapping[str, Any], body: Mapping[str, Any], **_: Any) -> None:
        key = ModelKey(meta["name"])
        if type == "DELETED":
            news.forget(key)
            waiting_news.forget(key)
        elif news.is_news(key, meta, *_of_a_model(meta, body)):
            queue.add(key)
        if type == "DELETED" or waiting_news.is_news(key, meta, model_mark(body)):
            for waiting in for_models.of(key.name):
                queue.add(waiting)

    def enqueue(meta: Mapping[str, Any]) -> None:
        key = job_of(meta)
        if key is not None:
            queue.add(key)
            labels = meta.get("labels") or {}
            for used in (names.LABEL_MODEL, names.LABEL_ADAPTER):
                if labels.get(used):
                    queue.add_after(ModelKey(labels[used]), _USE_DELAY)
        elif meta.get("namespace") == operator_namespace and (job := model_job_of(meta)):
            for model_key in for_jobs.of(job):
                queue.add(model_key)

    @kopf.on.event("batch", "v1", "jobs", registry=registry)
    async def on_job(meta: Mapping[str, Any], **_: Any) -> None:
        enqueue(meta)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def on_pod(meta: Mapping[str, Any], **_: Any) -> None:
        enqueue(meta)

    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf as a mere watcher."""
    settings.posting.enabled = False
    # The CRD is there before kopf starts (cli.py waits for it), so there is nothing to discover later.
    settings.scanning.disabled = True
    settings.watching.label_selectors[names.GROUP, names.VERSION, names.PLURAL] = UNFINISHED
    settings.watching.label_selectors["batch", "v1", "jobs"] = MANAGED
    settings.watching.label_selectors["", "v1", "pods"] = MANAGED
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.process.ultimate_exiting_timeout = 60
