"""observe, decide, act for a WhisperModel: idempotent, from what is there alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transcription_operator import access, names, status
from transcription_operator import api as k8s
from transcription_operator.api import Api, ApiError
from transcription_operator.errors import Conflict
from transcription_operator.keys import ModelKey, Outcome
from transcription_operator.manifests import model_job
from transcription_operator.metrics import Metrics
from transcription_operator.settings import Settings
from transcription_operator.waiters import Waiters
from transcription_operator.whispermodel import decide
from transcription_operator.whispermodel.observe import observe_model
from transcription_operator.whispermodel.spec import ModelSpec
from transcription_operator.whispermodel.views import ObservedModel

_DOWNLOADERS_OWN = ("progress",)
_REFUSALS = (400, 403, 422)
_CONFLICT_CHECK = 15.0


class ModelReconciler:
    """Carries plans out."""

    def __init__(self, api: Api, settings: Settings, metrics: Metrics | None = None) -> None:
        self._api = api
        self._settings = settings
        self._metrics = metrics or Metrics()
        self.waiters: Waiters[ModelKey] = Waiters()
        """Whose files which Job works on, by the Job's name."""

    def reconcile(self, key: ModelKey) -> Outcome:
        """Bring one WhisperModel a step further."""
        observed = observe_model(self._api, key.name, self._settings)
        if observed is None:
            self.waiters.set(key, None)
            self._metrics.gone(key.name)
            return Outcome()
        job_name = None
        if isinstance(observed.spec, ModelSpec):
            job_name = names.model_job_name(observed.spec.ref.repo, observed.spec.ref.revision)
        newly_waiting = self.waiters.set(key, job_name)
        plan = decide.decide(observed)
        self._write_status(observed, plan.status)
        self._measure(observed, plan)
        try:
            for action in plan.actions:
                self._act(observed, action)
        except ApiError as error:
            if error.status in _REFUSALS:
                self._write_status(observed, decide.refused(observed, error.message).status)
            raise
        except Conflict as conflict:
            self._write_status(observed, decide.refused(observed, conflict.message).status)
            return Outcome(after=_CONFLICT_CHECK)
        # What its Job did between the observation and the note that it is waited for would be missed.
        return Outcome(again=bool(plan.actions) or newly_waiting, after=plan.requeue)

    def _write_status(self, observed: ObservedModel, wanted: Mapping[str, Any] | None) -> bool:
        subject = status.Subject(
            k8s.WHISPER_MODELS,
            names.MODEL_KIND,
            None,
            observed.name,
            observed.uid,
            observed.resource_version,
            observed.status,
            _DOWNLOADERS_OWN,
        )
        return status.write(self._api, subject, wanted)

    def _measure(self, observed: ObservedModel, plan: decide.Plan) -> None:
        if plan.status is not None:
            self._metrics.seen(observed.name, plan.status["phase"], len(observed.usage.jobs))
        if plan.settled is not None:
            self._metrics.ended(plan.settled, observed.failure, observed.report)

    # --- actions -------------------------------------------------------------------------------------------

    def _act(self, observed: ObservedModel, action: decide.Action) -> None:
        match action:
            case decide.AddFinalizer():
                self._set_finalizers(observed, [*observed.finalizers, names.FINALIZER])
            case decide.RemoveFinalizer():
                self._set_finalizers(observed, [f for f in observed.finalizers if f != names.FINALIZER])
            case decide.StartJob():
                self._start_job(observed, action)
            case decide.DeleteJob(uid) if observed.job is not None:
                # A pod that may still write must be gone before another one starts under this name.
                name, running = observed.job.name, not observed.job.ended
                self._api.delete(k8s.JOBS, name, self._settings.namespace, uid=uid, foreground=running)
            case decide.DeleteModel():
                self._api.delete(k8s.WHISPER_MODELS, observed.name, uid=observed.uid)

    def _set_finalizers(self, observed: ObservedModel, finalizers: list[str]) -> None:
        # The list is replaced as a whole: only if nobody has changed it since it was read.
        found = self._api.get(k8s.WHISPER_MODELS, observed.name)
        if found is None or found["metadata"]["uid"] != observed.uid:
            return
        if tuple(found["metadata"].get("finalizers") or ()) != tuple(observed.finalizers):
            raise ApiError(409, "Conflict", f"the finalizers of WhisperModel {observed.name} have changed")
        body = {
            "metadata": {
                "uid": observed.uid,
                "resourceVersion": found["metadata"]["resourceVersion"],
                "finalizers": finalizers,
            }
        }
        self._api.patch(k8s.WHISPER_MODELS, body, observed.name)

    def _start_job(self, observed: ObservedModel, action: decide.StartJob) -> None:
        if not isinstance(observed.spec, ModelSpec):
            return
        namespace = self._settings.namespace
        access.require_volume(self._settings)
        access.ensure_cache(self._api, namespace, self._settings)
        work = model_job.Work(action.task, action.retries, action.repairs)
        body = model_job.build(observed.spec, self._settings, work)
        if action.replacing:
            self._api.delete(k8s.JOBS, body["metadata"]["name"], namespace, uid=action.replacing)
        # Somebody else's Job of this name is found, and reported, by the next observation.
        access.create(self._api, k8s.JOBS, body, namespace)
