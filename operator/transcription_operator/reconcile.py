"""observe, decide, act: idempotent, from what is there alone."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from transcription_operator import access, conditions, decide, events, names, times
from transcription_operator import api as k8s
from transcription_operator.api import Api, ApiError
from transcription_operator.errors import Conflict, NamespaceGone
from transcription_operator.manifests import download_job, runner_job
from transcription_operator.models import ModelRef
from transcription_operator.observe import observe
from transcription_operator.settings import Settings
from transcription_operator.spec import Spec
from transcription_operator.views import Observed

_log = logging.getLogger(__name__)
_RUNNERS_OWN = ("progress", "result")
_LONGEST_SLEEP = 3600.0
_INVALID = (400, 422)
_REFUSALS = (*_INVALID, 403)


@dataclass(frozen=True, order=True)
class Key:
    """A TranscriptionJob."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Waiters:
    """Who waits for which download Job: a short cut for its events. The sweeper makes up for what it misses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_job: dict[str, set[Key]] = defaultdict(set)
        self._by_key: dict[Key, str] = {}

    def set(self, key: Key, job: str | None) -> None:
        """Note what a key waits for; None for nothing."""
        with self._lock:
            before = self._by_key.pop(key, None)
            if before is not None:
                self._by_job[before].discard(key)
                if not self._by_job[before]:
                    del self._by_job[before]
            if job is not None:
                self._by_key[key] = job
                self._by_job[job].add(key)

    def of(self, job: str) -> list[Key]:
        """All that wait for one."""
        with self._lock:
            return sorted(self._by_job.get(job, ()))


@dataclass(frozen=True)
class Outcome:
    """What became of a reconcile: whether to look again, at once or later."""

    again: bool = False
    after: float | None = None


class Reconciler:
    """Carries plans out."""

    def __init__(self, api: Api, settings: Settings, waiters: Waiters | None = None) -> None:
        self._api = api
        self._settings = settings
        self.waiters = waiters or Waiters()

    def reconcile(self, key: Key) -> Outcome:
        """Bring one TranscriptionJob a step further."""
        observed = observe(self._api, key.namespace, key.name, self._settings)
        if observed is None:
            self.waiters.set(key, None)
            return Outcome()
        plan = decide.decide(observed)
        newly_waiting = plan.waits_for is not None
        self.waiters.set(key, plan.waits_for)
        try:
            changed = self._write_status(observed, plan.status)
            for action in plan.actions:
                self._attempt(observed, action)
        except NamespaceGone:
            _log.debug("%s: its namespace is being deleted", key)
            self.waiters.set(key, None)
            return Outcome()
        except Conflict as conflict:
            self._report_conflict(observed, conflict)
            return Outcome(after=15.0)
        # What was waited for may have come between the observation and the note that it is waited for.
        again = bool(plan.actions) or (changed and newly_waiting)
        finished = any(isinstance(action, (decide.MarkFinished, decide.DeleteResource)) for action in plan.actions)
        after = min(plan.requeue, _LONGEST_SLEEP) if plan.requeue is not None else None
        return Outcome(again=again and not finished, after=after)

    # --- status --------------------------------------------------------------------------------------------

    def _write_status(self, observed: Observed, status: Mapping[str, Any] | None) -> bool:
        if status is None:
            return False
        ours = {key: value for key, value in observed.status.items() if key not in _RUNNERS_OWN}
        if ours == {key: value for key, value in status.items() if key not in _RUNNERS_OWN} and all(
            observed.status.get(key) == status[key] for key in _RUNNERS_OWN if key in status
        ):
            return False
        metadata: dict[str, Any] = {"name": observed.name, "namespace": observed.namespace, "uid": observed.uid}
        if "jobName" in status and "jobName" not in observed.status:
            # From here on the spec cannot change: what was read must be what is frozen.
            metadata["resourceVersion"] = observed.resource_version
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": metadata,
            "status": dict(status),
        }
        self._api.apply_status(k8s.TRANSCRIPTION_JOBS, body, observed.namespace, observed.name)
        changes = conditions.transitions(observed.conditions, status.get("conditions") or [])
        for change in changes:
            _log.info(
                "%s/%s: %s=%s/%s: %s",
                observed.namespace,
                observed.name,
                change.type,
                change.status,
                change.reason,
                change.message,
            )
        events.post(self._api, observed, changes)
        return True

    def _report_conflict(self, observed: Observed, conflict: Conflict) -> None:
        status = dict(observed.status)
        kept = conditions.Conditions(observed.conditions, generation=observed.generation, now=times.now())
        kept.set(conditions.STARTED, False, conflict.reason, conflict.message)
        wanted = {
            **{key: value for key, value in status.items() if key not in _RUNNERS_OWN},
            "observedGeneration": observed.generation,
            "phase": "Pending",
            "conditions": kept.as_list(),
        }
        self._write_status(observed, wanted)

    def _attempt(self, observed: Observed, action: decide.Action) -> None:
        try:
            self._act(observed, action)
        except ApiError as error:
            if error.status not in _REFUSALS or error.namespace_gone:
                raise
            # A manifest that is invalid today is so tomorrow; a quota, a webhook or a right may change.
            final = isinstance(action, decide.CreateJob) and error.status in _INVALID
            plan = decide.refused(observed, action, error.message, final=final)
            self._write_status(observed, plan.status)
            if not final:
                raise
            self._mark_finished(observed)

    # --- actions -------------------------------------------------------------------------------------------

    def _act(self, observed: Observed, action: decide.Action) -> None:
        match action:
            case decide.EnsureAccess():
                access.ensure_access(self._api, observed.namespace, self._settings)
            case decide.StartDownload(model, retries, replacing):
                self._start_download(model, retries, replacing)
            case decide.DeleteDownload(model, uid):
                name = names.download_job_name(model.repo, model.revision)
                self._api.delete(k8s.JOBS, name, self._settings.namespace, uid=uid)
            case decide.CreateJob():
                self._create_job(observed, action)
            case decide.DeleteJob(uid):
                self._api.delete(k8s.JOBS, observed.job_name, observed.namespace, uid=uid)
            case decide.SetSuspend(uid, suspend):
                body = {"metadata": {"uid": uid}, "spec": {"suspend": suspend}}
                self._api.patch(k8s.JOBS, body, observed.job_name, observed.namespace)
            case decide.MarkFinished():
                self._mark_finished(observed)
            case decide.DeleteResource():
                self._api.delete(k8s.TRANSCRIPTION_JOBS, observed.name, observed.namespace, uid=observed.uid)

    def _start_download(self, model: ModelRef, retries: int, replacing: str | None) -> None:
        namespace = self._settings.namespace
        access.ensure_cache(self._api, namespace, self._settings)
        body = download_job.build(model, self._settings, retries=retries)
        if replacing:
            self._api.delete(k8s.JOBS, body["metadata"]["name"], namespace, uid=replacing)
        # Somebody else's Job of this name is found, and reported, by the next observation.
        access.create(self._api, k8s.JOBS, body, namespace)

    def _create_job(self, observed: Observed, action: decide.CreateJob) -> None:
        spec = observed.spec
        if not isinstance(spec, Spec):
            return
        body = runner_job.build(
            runner_job.Owner(observed.namespace, observed.name, observed.uid),
            spec,
            self._settings,
            attempts_before=action.attempts_before,
            model_job_uid=action.model_job_uid,
            recreated_for=action.recreated_for,
        )
        # One that exists is ours or is not: the next observation reads its owner's uid.
        access.create(self._api, k8s.JOBS, body, observed.namespace)

    def _mark_finished(self, observed: Observed) -> None:
        annotations: dict[str, str | None] = {names.ANNOTATION_GENERATION: str(observed.generation)}
        spec = observed.spec
        if isinstance(spec, Spec) and spec.ttl is not None:
            ended = times.parse(observed.status.get("completionTime")) or observed.now
            annotations[names.ANNOTATION_EXPIRES] = times.render(ended + timedelta(seconds=spec.ttl))
        else:
            annotations[names.ANNOTATION_EXPIRES] = None
        body = {
            "metadata": {
                "uid": observed.uid,
                "labels": {names.LABEL_FINISHED: "true"},
                "annotations": annotations,
            }
        }
        try:
            self._api.patch(k8s.TRANSCRIPTION_JOBS, body, observed.name, observed.namespace)
        except ApiError as error:
            if not error.is_missing:
                raise
