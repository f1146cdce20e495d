"""observe, decide, act: idempotent, from what is there alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from transcription_operator import access, conditions, decide, names, resolve, status, times
from transcription_operator import api as k8s
from transcription_operator.api import Api, ApiError
from transcription_operator.errors import Conflict, NamespaceGone
from transcription_operator.keys import Key, Outcome
from transcription_operator.manifests import runner_job
from transcription_operator.metrics import Metrics
from transcription_operator.observe import observe
from transcription_operator.settings import Settings
from transcription_operator.spec import Spec
from transcription_operator.views import Observed, latest
from transcription_operator.waiters import Waiters

_log = logging.getLogger(__name__)
_RUNNERS_OWN = ("progress", "result")
_INVALID = (400, 422)
_REFUSALS = (*_INVALID, 403)


class Reconciler:
    """Carries plans out."""

    def __init__(self, api: Api, settings: Settings, metrics: Metrics | None = None) -> None:
        self._api = api
        self._settings = settings
        self._metrics = metrics or Metrics()
        self.waiters: Waiters[Key] = Waiters()
        """Who waits for which WhisperModel."""

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
        if changed:
            self._measure(observed, plan)
        # What was waited for may have come between the observation and the note that it is waited for.
        again = bool(plan.actions) or (changed and newly_waiting)
        finished = any(isinstance(action, (decide.MarkFinished, decide.DeleteResource)) for action in plan.actions)
        return Outcome(again=again and not finished, after=plan.requeue)

    def _measure(self, observed: Observed, plan: decide.Plan) -> None:
        if plan.status is not None and conditions.is_true(plan.status["conditions"], conditions.COMPLETE):
            pod = latest(p for p in observed.pods if p.receipt)
            if pod is not None and pod.receipt is not None:
                self._metrics.read(pod.receipt.cache_bytes_read)

    # --- status --------------------------------------------------------------------------------------------

    def _write_status(self, observed: Observed, wanted: Mapping[str, Any] | None) -> bool:
        subject = status.Subject(
            k8s.TRANSCRIPTION_JOBS,
            names.KIND,
            observed.namespace,
            observed.name,
            observed.uid,
            observed.resource_version,
            observed.status,
            _RUNNERS_OWN,
        )
        # From when there is a Job the spec cannot change: what was read must be what is frozen.
        freezes = wanted is not None and "jobName" in wanted and "jobName" not in observed.status
        return status.write(self._api, subject, wanted, only_as_read=freezes)

    def _report_conflict(self, observed: Observed, conflict: Conflict) -> None:
        kept = conditions.Conditions(observed.conditions, generation=observed.generation, now=times.now())
        kept.set(conditions.STARTED, False, conflict.reason, conflict.message)
        wanted = {
            **{key: value for key, value in observed.status.items() if key not in _RUNNERS_OWN},
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
            case decide.EnsureModel(model):
                # One that exists is seen by the next observation, with whatever it says.
                access.create(self._api, k8s.WHISPER_MODELS, resolve.missing(model), None)
            case decide.AskForModel(name, last_job):
                self._annotate_model(name, names.ANNOTATION_WANTED, last_job)
            case decide.AskForRepair(name, version):
                self._annotate_model(name, names.ANNOTATION_REPAIR, version)
                self._metrics.damaged()
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

    def _annotate_model(self, name: str, annotation: str, value: str) -> None:
        self._api.patch(k8s.WHISPER_MODELS, {"metadata": {"annotations": {annotation: value}}}, name)

    def _create_job(self, observed: Observed, action: decide.CreateJob) -> None:
        spec = observed.spec
        if not isinstance(spec, Spec):
            return
        body = runner_job.build(
            runner_job.Owner(observed.namespace, observed.name, observed.uid),
            spec,
            self._settings,
            model=action.model,
            adapter=action.adapter,
            attempts_before=action.attempts_before,
            recreated_for=action.recreated_for,
        )
        # One that exists is ours or is not: the next observation reads its owner's uid.
        made = access.create(self._api, k8s.JOBS, body, observed.namespace)
        if made is not None and action.model.name and not action.attempts_before:
            before = conditions.Conditions(observed.conditions, generation=0, now=observed.now)
            self._metrics.asked(hit=before.get(conditions.MODEL_READY) is None)

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
