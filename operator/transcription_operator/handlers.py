"""kopf's part: watch, and turn events into keys. Nothing is ever written to an object by kopf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf
from kubernetes.client import Configuration

from transcription_operator import names
from transcription_operator.api import load_configuration
from transcription_operator.health import Health
from transcription_operator.queue import WorkQueue
from transcription_operator.reconcile import Key, Waiters
from transcription_operator.sweeper import UNFINISHED

MANAGED = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"


def job_of(meta: Mapping[str, Any]) -> Key | None:
    """Which TranscriptionJob a Job or a pod belongs to."""
    name = (meta.get("annotations") or {}).get(names.ANNOTATION_JOB)
    return Key(meta["namespace"], name) if name else None


def download_of(meta: Mapping[str, Any]) -> str | None:
    """Which download Job a Job, or a pod of one, stands for, as `namespace/name`."""
    labels = meta.get("labels") or {}
    if labels.get(names.LABEL_COMPONENT) != "download":
        return None
    job = labels.get("batch.kubernetes.io/job-name") or meta["name"]
    return f"{meta['namespace']}/{job}"


class News:
    """Tells a changed spec from a changed status: runners report progress every few seconds, and the operator's own
    writes come back as well. Nothing is lost by leaving those out: Jobs and pods have events of their own."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Any, ...]] = {}

    def is_news(self, key: Key, meta: Mapping[str, Any]) -> bool:
        """Whether this is anything but a change of status since the last time."""
        mark = (meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp"), repr(meta.get("labels")))
        before, self._seen[key] = self._seen.get(key), mark
        return before != mark

    def forget(self, key: Key) -> None:
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
    *, queue: WorkQueue[Key], waiters: Waiters, operator_namespace: str, health: Health, kubeconfig: str | None = None
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

    def enqueue(meta: Mapping[str, Any]) -> None:
        key = job_of(meta)
        if key is not None:
            queue.add(key)
        elif meta.get("namespace") == operator_namespace and (download := download_of(meta)):
            for waiting in waiters.of(download):
                queue.add(waiting)

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
