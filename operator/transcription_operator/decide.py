"""What to do next: a pure function from what was observed to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from transcription_operator import conditions as cond
from transcription_operator import names, receipt, times, volume_trouble
from transcription_operator.conditions import Conditions
from transcription_operator.errors import SpecError
from transcription_operator.manifests.runner_job import Model
from transcription_operator.models import ModelRef, ModelWish
from transcription_operator.receipt import Failure, Receipt
from transcription_operator.spec import Spec
from transcription_operator.views import JobView, ModelState, Observed, PodView, failure_of, latest

_PENDING_CHECK = 15.0
_REPAIRING, _REPAIRED = "Repairing", "Repaired"
_RECEIPT_LOST = "ReceiptLost"
_NO_JOB = (_RECEIPT_LOST, "JobConflict", "JobRefused", "VolumeNotReady", "VolumeChanged")
"""Reasons of Started that stand although there is no Job."""


@dataclass(frozen=True)
class EnsureAccess:
    """Make sure of what the job's namespace needs."""


@dataclass(frozen=True)
class EnsureModel:
    """Make sure of a WhisperModel for this one."""

    model: ModelRef


@dataclass(frozen=True)
class AskForModel:
    """Have a WhisperModel try again whose download failed, or whose files were evicted, with that Job."""

    name: str
    last_job: str


@dataclass(frozen=True)
class AskForRepair:
    """Have a WhisperModel's files verified and repaired, once for this version of them."""

    name: str
    version: str


@dataclass(frozen=True)
class CreateJob:
    """Create the runner Job."""

    model: Model
    adapter: Model | None = None
    attempts_before: int = 0
    recreated_for: str | None = None


@dataclass(frozen=True)
class DeleteJob:
    """Delete the runner Job with this uid."""

    uid: str


@dataclass(frozen=True)
class SetSuspend:
    """Suspend or resume the runner Job."""

    uid: str
    suspend: bool


@dataclass(frozen=True)
class MarkFinished:
    """Take the resource out of the watch."""


@dataclass(frozen=True)
class DeleteResource:
    """The time to live is over."""


Action = (
    EnsureAccess
    | EnsureModel
    | AskForModel
    | AskForRepair
    | CreateJob
    | DeleteJob
    | SetSuspend
    | MarkFinished
    | DeleteResource
)


@dataclass(frozen=True)
class Plan:
    """The status to have, then the actions in their order, then when to look again without an event."""

    status: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    requeue: float | None = None
    waits_for: str | None = None
    """The WhisperModel whose changes concern this resource."""


NOTHING = Plan()


@dataclass
class _Draft:
    """A status in the making."""

    o: Observed
    conditions: Conditions
    fields: dict[str, Any]
    actions: list[Action] = field(default_factory=list)

    @classmethod
    def of(cls, o: Observed) -> _Draft:
        kept = ("jobName", "startTime", "completionTime", "attempts", "resultRef", "language", "duration")
        fields = {key: o.status[key] for key in kept if key in o.status}
        return cls(o, Conditions(o.conditions, generation=o.generation, now=o.now), fields)

    def model(self, ready: bool, reason: str, message: str) -> None:
        self.conditions.set(cond.MODEL_READY, ready, reason, message)

    def started(self, value: bool, reason: str, message: str) -> None:
        self.conditions.set(cond.STARTED, value, reason, message)

    def plan(self, phase: str, *, requeue: float | None = None, waits_for: str | None = None) -> Plan:
        status = {
            "observedGeneration": self.o.generation,
            "phase": phase,
            "conditions": self.conditions.as_list(),
            **self.fields,
        }
        return Plan(status, tuple(self.actions), requeue, waits_for)

    def succeed(self, reason: str, message: str) -> Plan:
        return self._finish("Succeeded", cond.COMPLETE, reason, message)

    def fail(self, reason: str, message: str) -> Plan:
        return self._finish("Failed", cond.FAILED, reason, message)

    def _finish(self, phase: str, condition: str, reason: str, message: str) -> Plan:
        self.conditions.set(condition, True, reason, message)
        ended = self.o.job.ended_at if self.o.job else None
        self.fields["completionTime"] = times.render(ended or self.o.now)
        self.actions.append(MarkFinished())
        return self.plan(phase, requeue=_ttl(self.o, self.fields["completionTime"]))


def _ttl(o: Observed, completion: str) -> float | None:
    ttl = o.spec.ttl if isinstance(o.spec, Spec) else None
    ended = times.parse(completion)
    if ttl is None or ended is None:
        return None
    return max((ended + timedelta(seconds=ttl) - o.now).total_seconds(), 0.0)


def decide(o: Observed) -> Plan:
    """Decide from one observation alone; the same observation always leads to the same plan."""
    if o.deleting:
        return NOTHING
    if o.finished:
        return _after(o)
    draft = _Draft.of(o)
    if isinstance(o.spec, SpecError):
        return draft.fail(o.spec.reason, o.spec.message)
    if o.job is None:
        return _before_job(draft, o.spec)
    draft.fields["jobName"] = o.job.name
    if o.job.owner_uid != o.uid:
        draft.started(
            False,
            "JobConflict",
            f"A Job {o.job.name} exists in this namespace and does not belong to this TranscriptionJob. "
            "Delete that Job: the operator goes on by itself.",
        )
        return draft.plan("Pending", requeue=_PENDING_CHECK)
    if o.job.deleting:
        return draft.plan(str(o.status.get("phase") or "Pending"), requeue=2.0)
    draft.fields["attempts"] = max(o.job.attempts, int(o.status.get("attempts") or 0))
    if o.job.ended == "Complete":
        return _completed(draft, o.job)
    if o.job.ended == "Failed":
        return _failed(draft, o.job, o.spec)
    return _under_way(draft, o.job, o.spec)


def _after(o: Observed) -> Plan:
    """A finished resource: label it, and delete it when its time is over."""
    left = _ttl(o, str(o.status.get("completionTime") or ""))
    if left == 0.0:
        return Plan(actions=(DeleteResource(),))
    marked = names.LABEL_FINISHED in o.labels and o.annotations.get(names.ANNOTATION_GENERATION) == str(o.generation)
    return Plan(actions=() if marked else (MarkFinished(),), requeue=left)


def refused(o: Observed, action: Action, message: str, *, final: bool) -> Plan:
    """What to tell when the API server refuses an action: to the user if it is final, else while it is tried again."""
    draft = _Draft.of(o)
    if isinstance(action, (EnsureModel, AskForModel, AskForRepair)):
        draft.model(False, "DownloadFailed", f"The model's download cannot be asked for: {message}")
        return draft.plan("WaitingForModel")
    if final:
        return draft.fail("Usage", f"The API server refuses the Job that this spec asks for: {message}")
    draft.started(False, "JobRefused", f"The Job cannot be made, and is tried again: {message}")
    return draft.plan("Pending")


# --- before there is a Job ---------------------------------------------------------------------------------


def _before_job(draft: _Draft, spec: Spec) -> Plan:
    o = draft.o
    started = draft.conditions.get(cond.STARTED)
    reason = draft.conditions.reason(cond.STARTED)
    planned = draft.conditions.reason(cond.MODEL_READY) == _REPAIRING or reason in _NO_JOB
    if started is not None and not planned and reason != "JobDeleted":
        draft.started(
            False,
            "JobDeleted",
            f"The Job {o.job_name} was deleted before it had finished; it is made again. "
            "To stop the work, delete the TranscriptionJob or set spec.suspend.",
        )
    if spec.suspend:
        draft.conditions.set(
            cond.SUSPENDED, True, "Suspended", "spec.suspend is true: no pod is made until it is set to false."
        )
        return draft.plan("Suspended")
    _resumed(draft)
    waiting = _gate(draft, spec)
    if waiting is not None:
        return waiting
    draft.fields["jobName"] = o.job_name
    draft.actions += [
        EnsureAccess(),
        CreateJob(
            _model(o.model),
            _model(o.adapter) if spec.adapter else None,
            attempts_before=int(o.status.get("attempts") or 0),
            recreated_for=_RECEIPT_LOST if reason == _RECEIPT_LOST else None,
        ),
    ]
    return draft.plan("Pending")


def _model(state: ModelState) -> Model:
    return Model(state.argument, state.name or None, state.version)


def _resumed(draft: _Draft) -> None:
    if cond.is_true(draft.conditions.as_list(), cond.SUSPENDED):
        draft.conditions.set(cond.SUSPENDED, False, "Resumed", "No longer suspended.")


_THERE = {
    "NotNeeded": "cache: Fresh: the pod downloads the {kind} for itself.",
    "Baked": "{wish} is in the runner's image.",
    "Ready": "{wish} is in the cache (WhisperModel {name}).",
}
"""States in which nothing has to be waited for, and what is said of them."""
_HOPELESS = ("NoVolume", "NotAllowed", "Unusable", "Failed")


def _gate(draft: _Draft, spec: Spec) -> Plan | None:
    """None once the model is there, and the adapter where one is asked for; else the plan that gets them."""
    o = draft.o
    needed = [(spec.model, o.model), *([(spec.adapter, o.adapter)] if spec.adapter else [])]
    missing = [each for each in needed if each[1].status not in _THERE]
    if not missing:
        _tell_there(draft, needed)
        return None
    # What ends the job is told at once, whatever else is still on its way.
    missing.sort(key=lambda each: each[1].status not in _HOPELESS)
    plan = _await(draft, *missing[0])
    if plan.status is not None and plan.status["phase"] == "Failed":
        return plan
    others = [EnsureModel(wish.ref) for wish, state in missing[1:] if state.status == "Absent" and wish.ref]
    return replace(plan, actions=(*plan.actions, *others))


def _tell_there(draft: _Draft, needed: Sequence[tuple[ModelWish, ModelState]]) -> None:
    state = needed[0][1].status
    if draft.conditions.reason(cond.MODEL_READY) in (_REPAIRING, _REPAIRED):
        wishes = " and ".join(str(wish) for wish, _ in needed)
        draft.model(True, _REPAIRED, f"The cached copy of {wishes} was damaged, and is repaired.")
        return
    kinds = ("adapter" if wish.adapter else "model" for wish, _ in needed)
    texts = [
        _THERE[state.status].format(kind=kind, wish=wish, name=state.name)
        for kind, (wish, state) in zip(kinds, needed, strict=True)
    ]
    draft.model(True, state, " ".join(texts))


def _await(draft: _Draft, wish: ModelWish, state: ModelState) -> Plan:
    """The plan that gets what is not there, or that says why it cannot be had."""
    before = draft.conditions.reason(cond.MODEL_READY)
    match state.status:
        case "NoVolume":
            draft.model(False, "ModelNotFound", state.message)
            return draft.fail("ModelNotAvailable", state.message)
        case "NotAllowed" | "Unusable":
            reason = "ModelNotAllowed" if state.status == "NotAllowed" else "Usage"
            draft.model(False, reason, state.message)
            return draft.fail(reason, state.message)
        case "NotFound":
            draft.model(False, "ModelNotFound", state.message)
        case "Failed" if draft.o.created < (state.failed_at or draft.o.now):
            words = f"WhisperModel {state.name}: {state.reason}: {state.message}"
            draft.model(False, "DownloadFailed", words)
            return draft.fail("ModelNotAvailable", f"{words} This job has ended; apply it again afterwards.")
        case "Failed" | "Evicted":
            # Somebody asks after the failure: perhaps it has been set right.
            draft.actions.append(AskForModel(state.name, state.last_job))
            draft.model(False, "Downloading", f"WhisperModel {state.name} is asked for {wish} again.")
        case "Retrying":
            draft.model(False, "DownloadFailed", f"WhisperModel {state.name}: {state.reason}: {state.message}")
        case _:
            if state.status == "Absent" and wish.ref:
                draft.actions.append(EnsureModel(wish.ref))
            _tell_progress(draft, state, str(wish), repairing=before == _REPAIRING)
    return draft.plan("WaitingForModel", waits_for=state.name)


def _tell_progress(draft: _Draft, state: ModelState, wish: str, *, repairing: bool) -> None:
    if repairing:
        text = f"The cached copy of {wish} is damaged; WhisperModel {state.name} verifies and repairs it."
    else:
        text = f"WhisperModel {state.name} brings {wish} into the cache; this job starts when it is there."
    draft.model(False, _REPAIRING if repairing else "Downloading", f"{text} {state.message}".strip())


# --- while there is one ------------------------------------------------------------------------------------


def _under_way(draft: _Draft, job: JobView, spec: Spec) -> Plan:
    o = draft.o
    if spec.queue is None and job.suspended != spec.suspend:
        draft.actions.append(SetSuspend(job.uid, spec.suspend))
    if job.suspended:
        if spec.queue:
            text = f"Waiting for queue {spec.queue} to admit it."
        else:
            text = "spec.suspend is true: no pod runs until it is set to false."
        draft.conditions.set(cond.SUSPENDED, True, "Suspended", text)
        return draft.plan("Suspended")
    _resumed(draft)
    pod = latest(p for p in o.pods if not p.ended and not p.deleting)
    history = _history(draft, job)
    if pod is not None and pod.running:
        _set_start(draft, pod, job)
        draft.started(True, "Running", f"Pod {pod.name} is running.{history}")
        return draft.plan("Running")
    last = latest(o.pods)
    if pod is None and last is not None and (last.phase == "Succeeded" or not job.failed):
        # The pod has ended and the Job controller has not judged it yet: its word follows at once.
        return draft.plan(str(o.status.get("phase") or "Pending"))
    reason, text = _why_not_running(o, pod, job)
    if reason == "VolumeNotBound" or o.warnings:
        draft.actions.append(EnsureAccess())  # something that pods need may have been deleted since
    draft.started(False, reason, text + history)
    # Pods report their troubles by events of their own; only those that say nothing must be looked after.
    silent = pod is None or pod.silent
    return draft.plan("Pending", requeue=_PENDING_CHECK if silent else None)


def _why_not_running(o: Observed, pod: PodView | None, job: JobView) -> tuple[str, str]:
    warnings = "; ".join(o.warnings)
    if pod is None:
        if warnings:
            return "JobCreated", f"Job {job.name} cannot make its pod: {warnings}"
        what = "the pod of its next attempt follows" if job.failed else "its pod follows"
        return "JobCreated", f"Job {job.name} is made; {what}."
    if pod.trouble:
        return pod.trouble.reason, _ADVICE[pod.trouble.reason].format(pod=pod.name, words=pod.trouble.message)
    if warnings:
        if trouble := volume_trouble.explain(warnings):
            return trouble.reason, f"Pod {pod.name} waits for a volume: {warnings} {trouble.advice}"
        return "JobCreated", _ADVICE["JobCreated"].format(pod=pod.name, words=warnings)
    return "JobCreated", f"Pod {pod.name} is being started."


_ADVICE = {
    "Unschedulable": "No node takes pod {pod}: {words} "
    "It starts by itself once a node has room; compare spec.resources, nodeSelector and tolerations with the nodes.",
    "VolumeNotBound": "Pod {pod} waits for a volume: {words} "
    "Check that the claims it names exist and are Bound, and that the cache's volume can be mounted.",
    "ImagePullFailed": "The image of pod {pod} cannot be pulled: {words} "
    "Check runnerImage and imagePullSecrets in the operator's settings.",
    "ContainerConfigError": "Pod {pod} cannot be started: {words} "
    "If it names a Secret, create that Secret (or correct credentialsSecret) in this namespace.",
    "JobCreated": "Pod {pod} does not start: {words}",
}


def _history(draft: _Draft, job: JobView) -> str:
    """What became of the attempts before, in a sentence."""
    if not job.failed:
        return ""
    failure = failure_of(latest(p for p in draft.o.pods if p.phase == "Failed"))
    why = f" The one before ended with {failure.error_class}: {failure}" if failure else ""
    return f" Attempt {job.failed + 1} of {job.backoff_limit + 1}.{why}"


def _set_start(draft: _Draft, pod: PodView | None, job: JobView) -> None:
    moment = (pod.started_at if pod else None) or job.started_at
    if moment and "startTime" not in draft.fields:
        draft.fields["startTime"] = times.render(moment)


# --- once it has ended -------------------------------------------------------------------------------------


def _completed(draft: _Draft, job: JobView) -> Plan:
    o = draft.o
    pod = latest(p for p in o.pods if p.phase == "Succeeded")
    _set_start(draft, pod, job)
    _resumed(draft)
    if pod is None:
        return _receipt_lost(draft, job)
    draft.started(True, "Running", f"Pod {pod.name} ran.")
    if pod.receipt is None:
        return draft.fail(
            "ResultMismatch",
            f"Pod {pod.name} ended well and left no receipt that can be read, so its result cannot be vouched for. "
            + _again(o),
        )
    return _judge(draft, pod.receipt)


def _receipt_lost(draft: _Draft, job: JobView) -> Plan:
    """The pod is gone, and with it the receipt. A second run finds the durable copy and only delivers it."""
    if job.annotation(names.ANNOTATION_RECREATED) == _RECEIPT_LOST:
        return draft.fail(
            "ResultMismatch",
            "Twice the pod was deleted after it had ended and before its receipt was read. " + _again(draft.o),
        )
    draft.started(
        False,
        _RECEIPT_LOST,
        f"Job {job.name} is complete, but its pod was deleted before its receipt was read. It runs once more; "
        "the transcript that it left on the shared volume is found and delivered.",
    )
    draft.actions.append(DeleteJob(job.uid))
    return draft.plan("Pending", requeue=1.0)


def _again(o: Observed) -> str:
    folder = names.transcripts_folder(o.namespace, o.name)
    return f"What it wrote may lie in {folder}/ on the shared volume; to run it anew, delete and apply this again."


def _judge(draft: _Draft, found: Receipt) -> Plan:
    """Succeeded only if receipt and result agree."""
    result = draft.o.status.get("result")
    draft.fields["resultRef"] = found.reference
    if found.language:
        draft.fields["language"] = found.language
    if found.duration is not None:
        draft.fields["duration"] = found.duration
    if result is not None and receipt.digest(result) == found.digest:
        return draft.succeed("Transcribed", _summary(found))
    if result is None and not found.delivered:
        draft.fields["result"] = {"text": found.text, "language": found.language or "", "truncated": True}
        place = found.url or found.path
        return draft.succeed(
            "ResultByReference",
            f"{_summary(found)} The runner could not reach the API server to deliver the whole result: "
            f"status.result holds its beginning, the transcript is at {place} (status.resultRef).",
        )
    what = "is not there" if result is None else "is not what its pod wrote"
    return draft.fail(
        "ResultMismatch",
        f"status.result {what} (the receipt names the digest {found.digest[:12]}…). "
        f"The durable copy is at {found.url or found.path}. " + _again(draft.o),
    )


def _summary(found: Receipt) -> str:
    text = "Transcribed"
    if found.duration is not None:
        text += f" {found.duration:g} s of audio"
    if "total" in found.timings:
        text += f" in {found.timings['total']:g} s"
    details = [found.language] if found.language else []
    if found.segments is not None:
        details.append(f"{found.segments} segment{'' if found.segments == 1 else 's'}")
    return text + (f" ({', '.join(details)})." if details else ".")


def _failed(draft: _Draft, job: JobView, spec: Spec) -> Plan:
    o = draft.o
    pod = latest(p for p in o.pods if p.phase == "Failed")
    failure = failure_of(pod)
    _set_start(draft, pod, job)
    _resumed(draft)
    if job.reason == "DeadlineExceeded":
        return draft.fail(
            "DeadlineExceeded",
            f"It was not done after activeDeadlineSeconds ({spec.active_deadline} s) and was stopped. "
            "Raise activeDeadlineSeconds, or find out what took so long."
            + (f" Before that: {failure}" if failure else ""),
        )
    if failure is None:
        return draft.fail(
            "BackoffLimitExceeded",
            f"{job.message or job.reason} No pod is left that could say why; set a higher backoffLimit, "
            "or look at the events of the Job and of its pods.",
        )
    # Without a WhisperModel behind it there is nobody who could repair it.
    cached = any(job.annotation(annotation) for annotation, _ in _relied_on(o))
    if failure.error_class == "CorruptModelCache" and cached:
        if draft.conditions.reason(cond.MODEL_READY) != _REPAIRED:
            return _repair(draft, job, failure)
        return draft.fail("CorruptModelCache", f"{failure} The cache was repaired once already, in vain.")
    tries = f" (attempt {job.failed} of {job.backoff_limit + 1})" if job.reason == "BackoffLimitExceeded" else ""
    return draft.fail(failure.error_class, f"{failure}{tries}")


def _repair(draft: _Draft, job: JobView, failure: Failure) -> Plan:
    """Have the cache verified and repaired, and then run again. Many jobs may meet the same damage: it is repaired
    only if the files are still those that this run relied on."""
    o = draft.o
    used = [(annotation, state) for annotation, state in _relied_on(o) if job.annotation(annotation)]
    shown = " and ".join(state.name for _, state in used)
    draft.model(False, _REPAIRING, f"{failure} The cached copy of {shown} is verified and repaired, once.")
    for annotation, state in used:
        if state.status == "Ready" and state.version and state.version == job.annotation(annotation):
            draft.actions.append(AskForRepair(state.name, state.version))
    draft.actions.append(DeleteJob(job.uid))
    return draft.plan("WaitingForModel", requeue=1.0, waits_for=used[0][1].name)


def _relied_on(o: Observed) -> tuple[tuple[str, ModelState], ...]:
    """The annotations that tell which files a runner Job relied on, and the states of these now."""
    return (names.ANNOTATION_MODEL_VERSION, o.model), (names.ANNOTATION_ADAPTER_VERSION, o.adapter)
