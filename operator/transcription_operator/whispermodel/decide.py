"""What to do next with a WhisperModel: a pure function from what was observed to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from transcription_operator import names, times
from transcription_operator.conditions import EVICTION_DUE, READY, VERIFIED, Conditions
from transcription_operator.errors import SpecError
from transcription_operator.receipt import Failure
from transcription_operator.views import JobView
from transcription_operator.whispermodel import retention
from transcription_operator.whispermodel.spec import ModelSpec, VolumeSource
from transcription_operator.whispermodel.views import ObservedModel, Task

_PERMANENT = {"Usage", "ModelMissing", "SourceMissing", "PermissionDenied", "BadAudio"}
"""Classes of failures that another try alone will not change."""
_RETRY = (timedelta(minutes=1), timedelta(minutes=30))
_USE_STEP = timedelta(hours=1)
"""lastUsed moves in steps of this: a thousand jobs an hour are one write."""
_EVICTION_GRACE = timedelta(seconds=30)
"""Between the end of Ready and the removal: time for a job that saw it Ready a moment ago to show up."""
_CHECK = 15.0
_FAILED_KEPT = timedelta(days=1)
"""What the operator made for a job, a misspelt name perhaps, and could not get: how long it stays to be read."""
_SHORT = 12
_VOLUME_SLOW = "VolumeSlow"
_SLOW_ADVICE = (
    "The shared volume takes little of what is written to it, and so will every runner's start from it: look at its "
    "throughput (on EFS BurstCreditBalance and PercentIOLimit). status.progress says how fast it is."
)
_EVICTING = "Evicting"
_KEEP = f"kubectl annotate whispermodel {{name}} {names.ANNOTATION_KEEP_FILES}=true"

_PHASES = {
    Task.DOWNLOAD: "Downloading",
    Task.REPAIR: "Corrupt",
    Task.VERIFY: "Verifying",
    Task.REMOVE: "Evicted",
}
_REASONS = {
    Task.DOWNLOAD: "Downloading",
    Task.REPAIR: "Repairing",
    Task.VERIFY: "Verifying",
    Task.REMOVE: _EVICTING,
}
_WORK = {
    Task.DOWNLOAD: "downloads",
    Task.REPAIR: "verifies and repairs",
    Task.VERIFY: "verifies",
    Task.REMOVE: "removes the files of",
}


@dataclass(frozen=True)
class AddFinalizer:
    """Hold the resource until its files are removed."""


@dataclass(frozen=True)
class RemoveFinalizer:
    """Let the resource go."""


@dataclass(frozen=True)
class StartJob:
    """Make sure of the Job that works on the files; with `replacing`, delete that one (by uid) first."""

    task: Task
    retries: int = 0
    repairs: int = 0
    replacing: str | None = None


@dataclass(frozen=True)
class DeleteJob:
    """Delete the Job with this uid; its name is free once its pods are gone."""

    uid: str


@dataclass(frozen=True)
class DeleteModel:
    """Nobody uses what the operator made: it goes as a whole."""


Action = AddFinalizer | RemoveFinalizer | StartJob | DeleteJob | DeleteModel


@dataclass(frozen=True)
class Plan:
    """The status to have, then the actions in their order, then when to look again without an event."""

    status: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    requeue: float | None = None
    settled: Task | None = None
    """The task whose Job's end is new in this status."""


NOTHING = Plan()
_KEPT = (
    "repo",
    "revision",
    "commit",
    "bytes",
    "files",
    "lastUsed",
    "repairs",
    "retry",
    "failedAt",
    "handled",
    "jobName",
    "lastJob",
)


@dataclass
class _Draft:
    """A status in the making."""

    o: ObservedModel
    conditions: Conditions
    fields: dict[str, Any]
    phase: str
    actions: list[Action] = field(default_factory=list)
    settled: Task | None = None

    @classmethod
    def of(cls, o: ObservedModel) -> _Draft:
        fields = {key: o.status[key] for key in _KEPT if key in o.status}
        draft = cls(o, Conditions(o.conditions, generation=o.generation, now=o.now), fields, o.phase)
        if isinstance(o.spec, ModelSpec):
            fields["repo"], fields["revision"] = o.spec.ref.repo, o.spec.ref.revision
        fields["users"] = len(o.usage.jobs)
        fields.setdefault("repairs", 0)
        known = times.parse(fields.get("lastUsed"))
        if o.usage.last and (known is None or o.usage.last - known >= _USE_STEP):
            fields["lastUsed"] = times.render(o.usage.last)
        return draft

    def handled(self, request: str) -> str:
        return str((self.fields.get("handled") or {}).get(request, ""))

    def handle(self, request: str, value: str) -> None:
        self.fields["handled"] = {**(self.fields.get("handled") or {}), request: value}

    def become(self, phase: str, ready: bool, reason: str, message: str) -> None:
        if phase != "Failed":
            self.fields.pop("failedAt", None)
        self.phase = phase
        self.conditions.set(READY, ready, reason, message)

    def ready(self, reason: str, message: str) -> None:
        self.fields.pop("retry", None)
        self.become("Ready", True, reason, message)

    def plan(self, requeue: float | None = None) -> Plan:
        status = {
            "observedGeneration": self.o.generation,
            "phase": self.phase,
            "conditions": self.conditions.as_list(),
            **self.fields,
        }
        if "commit" in self.fields:
            status["shortCommit"] = self.fields["commit"][:_SHORT]
        return Plan(status, tuple(self.actions), requeue, self.settled)


def decide(o: ObservedModel) -> Plan:
    """Decide from one observation alone; the same observation always leads to the same plan."""
    if o.deleting and names.FINALIZER not in o.finalizers:
        return NOTHING
    draft = _Draft.of(o)
    if isinstance(o.spec, SpecError):
        draft.become("Failed", False, "Usage", o.spec.message)
        if o.deleting:
            draft.actions.append(RemoveFinalizer())
        return draft.plan()
    if o.deleting:
        return _deleting(draft, o.spec)
    if names.FINALIZER not in o.finalizers:
        draft.actions.append(AddFinalizer())
    job = o.job
    if job is not None:
        if job.annotation(names.ANNOTATION_MODEL) != str(o.spec.ref):
            draft.become(
                "Pending",
                False,
                "JobConflict",
                f"A Job {job.name} exists in the operator's namespace that was not made for {o.spec.ref}; "
                "delete it, or give it another name.",
            )
            return draft.plan(_CHECK)
        if job.deleting:
            return draft.plan(2.0)
        if not job.ended:
            return _under_way(draft, o.spec, job)
        # One from before this resource speaks of an earlier one's files.
        if job.uid != draft.fields.get("lastJob") and job.created >= o.created:
            _settle(draft, o.spec, job)
    return _next(draft, o.spec)


def refused(o: ObservedModel, message: str) -> Plan:
    """What to tell while the API server refuses an action."""
    draft = _Draft.of(o)
    reason = "JobRefused"
    draft.conditions.set(READY, False, reason, f"The API server refuses what is next, and is asked again: {message}")
    return draft.plan()


# --- its Job -----------------------------------------------------------------------------------------------


def _task(job: JobView) -> Task:
    written = job.annotation(names.ANNOTATION_TASK)
    return Task(written) if written in set(Task) else Task.DOWNLOAD


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _under_way(draft: _Draft, spec: ModelSpec, job: JobView) -> Plan:
    task = _task(job)
    draft.fields["jobName"] = job.name
    words = f"Job {job.name} {_WORK[task]} {spec.origin}. {draft.o.message}"
    if task is Task.REMOVE and draft.phase != "Evicted":
        # The removal was begun for another one with the same files, which is gone now.
        draft.become("Pending", False, "Removing", words.strip())
    elif task in (Task.DOWNLOAD, Task.REPAIR) and draft.o.held_up == _VOLUME_SLOW:
        draft.become(_PHASES[task], False, _VOLUME_SLOW, f"{_SLOW_ADVICE} {words}".strip())
    else:
        draft.become(_PHASES[task], False, _REASONS[task], words.strip())
    return draft.plan(_CHECK if draft.o.message else None)


def _settle(draft: _Draft, spec: ModelSpec, job: JobView) -> None:
    """Take the end of a Job into the status, once."""
    task = _task(job)
    draft.settled = task
    draft.fields |= {"jobName": job.name, "lastJob": job.uid}
    if job.ended == "Complete":
        _succeeded(draft, spec, job, task)
    else:
        _failed(draft, spec, job, task, draft.o.failure or Failure("Temporary", job.message or "no reason given"))


def _succeeded(draft: _Draft, spec: ModelSpec, job: JobView, task: Task) -> None:
    draft.fields |= draft.o.report.facts
    if task is Task.REMOVE:
        draft.fields.pop("retry", None)
        for fact in ("commit", "bytes", "files"):
            draft.fields.pop(fact, None)
        draft.conditions.remove(VERIFIED)
        draft.conditions.remove(EVICTION_DUE)
        if draft.phase == "Evicted":
            draft.become("Evicted", False, "Evicted", f"Nobody used {spec.origin}; the next job downloads it again.")
        else:
            draft.become("Pending", False, "Removing", f"The files of {spec.origin} were removed for another one.")
        return
    size = f" ({draft.fields['bytes']} bytes)" if "bytes" in draft.fields else ""
    if task is Task.REPAIR:
        draft.fields["repairs"] = max(int(draft.fields["repairs"]), _count(job.annotation(names.ANNOTATION_REPAIRS)))
        draft.ready("Repaired", f"The cached copy of {spec.origin} was damaged; {job.name} has repaired it{size}.")
    else:
        draft.ready("Ready", f"{spec.origin} is in the cache{size}.")
    if task is not Task.DOWNLOAD or draft.o.report.transferred:
        when = times.render(_ended(draft, job))
        draft.conditions.set(VERIFIED, True, "Verified", f"Every file agreed with its hash at {when}.")


def _ended(draft: _Draft, job: JobView) -> Any:
    return job.ended_at or draft.o.now


def _failed(draft: _Draft, spec: ModelSpec, job: JobView, task: Task, failure: Failure) -> None:
    words = f"Job {job.name} could not {task} {spec.origin}: {failure}"
    if failure.error_class == "CorruptModelCache" and task is Task.VERIFY:
        draft.conditions.set(VERIFIED, False, failure.name, str(failure))
        if not isinstance(spec.source, VolumeSource):
            draft.become("Corrupt", False, failure.name, f"{failure} It is verified and repaired, once.")
            return
        words += " The operator did not put these files there and cannot repair them."
    elif failure.error_class not in _PERMANENT or task is Task.REMOVE:
        retries = _count(job.annotation(names.ANNOTATION_RETRIES))
        shortest, longest = _RETRY
        again = _ended(draft, job) + min(shortest * 2 ** min(retries, 10), longest)
        draft.fields["retry"] = {"count": retries + 1, "at": times.render(again)}
        phase = "Pending" if task is Task.DOWNLOAD else _PHASES[task]
        reason = _EVICTING if task is Task.REMOVE else failure.name
        draft.become(phase, False, reason, f"{words} It is tried again at {times.render(again)}.")
        return
    draft.fields.pop("retry", None)
    draft.fields["failedAt"] = times.render(_ended(draft, job))
    draft.become(
        "Failed",
        False,
        failure.name,
        f"{words} Set that right; then a new TranscriptionJob, or "
        f"kubectl annotate whispermodel {draft.o.name} --overwrite {names.ANNOTATION_RETRY}=$(date +%s), "
        "has it tried again.",
    )


# --- when no Job is under way ------------------------------------------------------------------------------


def _next(draft: _Draft, spec: ModelSpec) -> Plan:
    o = draft.o
    retry = o.annotations.get(names.ANNOTATION_RETRY, "")
    asked = retry != draft.handled("retry")
    if asked:
        draft.handle("retry", retry)
    if draft.phase == "Ready":
        return _ready(draft, spec)
    changed = o.generation != int(o.status.get("observedGeneration") or o.generation)
    gone = draft.conditions.reason(READY) == "Evicted"
    if draft.phase == "Failed" or gone:
        wanted = o.annotations.get(names.ANNOTATION_WANTED) == draft.fields.get("lastJob", "")
        if not (asked or wanted or changed):
            return _given_up(draft)
        draft.fields.pop("retry", None)
        return _start(draft, spec, _first_task(spec))
    if draft.conditions.reason(READY) == _EVICTING:
        return _evicting(draft, spec)
    sibling = next((s for s in o.siblings if s.ready), None)
    if sibling is not None:
        draft.fields |= dict(sibling.facts or {})
        draft.ready("Ready", f"{spec.origin} is in the cache: WhisperModel {sibling.name} has the same files.")
        return _ready(draft, spec)
    left = _until_retry(draft)
    if left > 0 and not (asked or changed):
        return draft.plan(left)
    tasks = {"Corrupt": Task.REPAIR, "Verifying": Task.VERIFY}
    return _start(draft, spec, tasks.get(draft.phase, _first_task(spec)))


def _given_up(draft: _Draft) -> Plan:
    failed = times.parse(draft.fields.get("failedAt"))
    if failed is None or not draft.o.made_by_operator:
        return draft.plan()
    left = (failed + _FAILED_KEPT - draft.o.now).total_seconds()
    if left > 0:
        return draft.plan(left)
    draft.actions.append(DeleteModel())
    return draft.plan()


def _first_task(spec: ModelSpec) -> Task:
    return Task.VERIFY if isinstance(spec.source, VolumeSource) else Task.DOWNLOAD


def _until_retry(draft: _Draft) -> float:
    at = times.parse((draft.fields.get("retry") or {}).get("at"))
    return (at - draft.o.now).total_seconds() if at else 0.0


def _start(draft: _Draft, spec: ModelSpec, task: Task) -> Plan:
    job = draft.o.job
    retry = draft.fields.pop("retry", None) or {}
    if isinstance(spec.source, VolumeSource) and task is Task.REPAIR:
        task = Task.VERIFY
    name = names.model_job_name(spec.ref.repo, spec.ref.revision)
    draft.fields |= {"jobName": name, "progress": {"percent": 0}}
    draft.actions.append(
        StartJob(
            task,
            retries=int(retry.get("count") or 0),
            repairs=int(draft.fields["repairs"]) + (task is Task.REPAIR),
            replacing=job.uid if job else None,
        )
    )
    draft.become(_PHASES[task], False, _REASONS[task], f"Job {name} {_WORK[task]} {spec.origin}.")
    return draft.plan()


def _ready(draft: _Draft, spec: ModelSpec) -> Plan:
    o = draft.o
    if o.annotations.get(names.ANNOTATION_REPAIR) == names.model_version(o.uid, draft.fields["repairs"]):
        if isinstance(spec.source, VolumeSource):
            draft.fields["repairs"] += 1  # it is only looked at; the next report is another incident
        draft.conditions.set(VERIFIED, False, "CorruptModelCache", "A runner found its files damaged.")
        return _start(draft, spec, Task.REPAIR)
    verify = o.annotations.get(names.ANNOTATION_VERIFY, "")
    if verify != draft.handled("verify"):
        draft.handle("verify", verify)
        return _start(draft, spec, Task.VERIFY)
    return _retained(draft, spec)


# --- unused ------------------------------------------------------------------------------------------------


def _retained(draft: _Draft, spec: ModelSpec) -> Plan:
    """Ready: how long it stays so without anybody's use."""
    o = draft.o
    now_so = {"conditions": draft.conditions.as_list(), "lastUsed": draft.fields.get("lastUsed")}
    due = retention.due_at(now_so, o.retention.days)
    if due is None or isinstance(spec.source, VolumeSource) or o.siblings:
        draft.conditions.remove(EVICTION_DUE)
        return draft.plan()
    busy = bool(o.usage.jobs) or o.usage.awaited
    if due > o.now or busy:
        draft.conditions.remove(EVICTION_DUE)
        return draft.plan(max((due - o.now).total_seconds(), _CHECK) if not busy else None)
    since = retention.unused_since(now_so)
    size = f"{draft.fields['bytes']} bytes" if "bytes" in draft.fields else "its files"
    why = f"Unused since {times.render(since) if since else '?'}, for more than {o.retention.days} days"
    if o.retention.dry_run:
        draft.conditions.set(
            EVICTION_DUE, True, "DryRun", f"{why}: without retention.dryRun {size} would be removed now."
        )
        return draft.plan()
    draft.conditions.set(EVICTION_DUE, True, "Unused", f"{why}: {size} are removed.")
    draft.become("Evicted", False, _EVICTING, f"{why}: the files of {spec.origin} are being removed.")
    return draft.plan(_EVICTION_GRACE.total_seconds())


def _evicting(draft: _Draft, spec: ModelSpec) -> Plan:
    """No longer Ready, and not yet removed: the last moment for somebody to need it."""
    o = draft.o
    if o.usage.jobs or o.usage.awaited:
        draft.conditions.remove(EVICTION_DUE)
        draft.ready("Ready", f"{spec.origin} is in the cache; a job has come before it was removed.")
        return draft.plan()
    ready = draft.conditions.get(READY) or {}
    since = times.parse(ready.get("lastTransitionTime")) or o.now
    left = max((since + _EVICTION_GRACE - o.now).total_seconds(), _until_retry(draft))
    if left > 0:
        return draft.plan(left)
    if o.made_by_operator:
        draft.actions.append(DeleteModel())
        return draft.plan()
    return _start(draft, spec, Task.REMOVE)


# --- on its way out ----------------------------------------------------------------------------------------


def _deleting(draft: _Draft, spec: ModelSpec) -> Plan:
    o = draft.o
    job = o.job if o.job and o.job.annotation(names.ANNOTATION_MODEL) == str(spec.ref) else None
    mine = job if job and not o.siblings else None
    keep = o.annotations.get(names.ANNOTATION_KEEP_FILES) == "true"
    if o.usage.jobs and not keep:
        users = ", ".join(o.usage.jobs[:5]) + (", …" if len(o.usage.jobs) > 5 else "")
        draft.become(
            "Deleting", False, "InUse", f"{len(o.usage.jobs)} running job(s) use it: {users}. It goes when they end."
        )
        return draft.plan(_CHECK)
    untouched = job is None and "lastJob" not in draft.fields and "jobName" not in draft.fields
    if keep or o.siblings or untouched or isinstance(spec.source, VolumeSource):
        return _let_go(draft, mine)
    if job is not None and job.deleting:
        draft.become("Deleting", False, "Removing", f"Job {job.name} is being stopped.")
        return draft.plan(2.0)
    if job is None or _task(job) is not Task.REMOVE:
        if job is not None and not job.ended:
            draft.actions.append(DeleteJob(job.uid))
            draft.become("Deleting", False, "Removing", f"Job {job.name} is being stopped.")
            return draft.plan(2.0)
        return _start_removal(draft, spec, job)
    if job.ended == "Complete":
        if job.uid != draft.fields.get("lastJob"):
            draft.settled = Task.REMOVE
            draft.fields["lastJob"] = job.uid
        return _let_go(draft, job)
    give_up = _KEEP.format(name=o.name)
    if not job.ended:
        words = f"Job {job.name} removes its files. {o.message}".strip()
        draft.become("Deleting", False, "Removing", f"{words} To give the files up: {give_up}" if o.message else words)
        return draft.plan(_CHECK if o.message else None)
    failure = o.failure or Failure("Temporary", job.message or "no reason given")
    if job.uid != draft.fields.get("lastJob"):
        draft.phase = "Deleting"
        _settle(draft, spec, job)
    left = _until_retry(draft)
    if left <= 0:
        return _start_removal(draft, spec, job)
    again = (draft.fields.get("retry") or {}).get("at")
    draft.become(
        "Deleting",
        False,
        failure.name,
        f"Its files could not be removed: {failure} It is tried again at {again}. To give the files up: {give_up}",
    )
    return draft.plan(left)


def _start_removal(draft: _Draft, spec: ModelSpec, job: JobView | None) -> Plan:
    retry = draft.fields.get("retry") or {}
    draft.fields.pop("retry", None)
    name = names.model_job_name(spec.ref.repo, spec.ref.revision)
    draft.fields["jobName"] = name
    draft.actions.append(
        StartJob(Task.REMOVE, retries=int(retry.get("count") or 0), replacing=job.uid if job else None)
    )
    draft.become("Deleting", False, "Removing", f"Job {name} removes its files.")
    return draft.plan()


def _let_go(draft: _Draft, job: JobView | None) -> Plan:
    if job is not None and not job.deleting:
        draft.actions.append(DeleteJob(job.uid))
    draft.actions.append(RemoveFinalizer())
    draft.become("Deleting", False, "Removed", "Nothing holds it any more.")
    return draft.plan()
