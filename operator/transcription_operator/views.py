"""What was seen, as small frozen views that decisions are made from; and how API objects are read into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from transcription_operator import conditions, names, receipt, times
from transcription_operator.errors import SpecError
from transcription_operator.receipt import Failure, Receipt
from transcription_operator.spec import Spec
from transcription_operator.spec import parse as parse_spec

Object = dict[str, Any]

_PULL_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run, as the reason of the Started condition and the words of who refuses."""

    reason: str
    message: str


@dataclass(frozen=True)
class PodView:
    """One pod."""

    name: str
    uid: str
    phase: str
    created: datetime
    running: bool = False
    started_at: datetime | None = None
    deleting: bool = False
    trouble: Trouble | None = None
    receipt: Receipt | None = None
    failure: Failure | None = None
    signal: int | None = None
    exit_code: int | None = None
    message: str = ""
    """The termination message, as it is."""
    oom_killed: bool = False
    evicted: str | None = None
    disrupted: str | None = None
    silent: bool = False
    """Scheduled and yet without a word of what it waits for."""

    @property
    def ended(self) -> bool:
        """Succeeded or failed."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class JobView:
    """One batch/v1 Job."""

    name: str
    uid: str
    created: datetime
    owner_uid: str | None = None
    deleting: bool = False
    suspended: bool = False
    started_at: datetime | None = None
    ended: str | None = None
    """`Complete` or `Failed`, once the Job controller has said so for good."""
    ended_at: datetime | None = None
    reason: str = ""
    message: str = ""
    active: int = 0
    failed: int = 0
    succeeded: int = 0
    backoff_limit: int = 0
    annotations: Mapping[str, str] | None = None

    def annotation(self, name: str) -> str | None:
        """One annotation."""
        return (self.annotations or {}).get(name)

    @property
    def attempts(self) -> int:
        """Pods that have tried, those of earlier Jobs of the same resource included."""
        before = self.annotation(names.ANNOTATION_ATTEMPTS) or "0"
        tried = self.failed + self.succeeded + (1 if self.active else 0)
        return (int(before) if before.isdecimal() else 0) + tried


@dataclass(frozen=True)
class ModelState:
    """The state of a job's model, or of its adapter, as a WhisperModel tells it."""

    status: str
    """NotNeeded, Baked, NoVolume; Absent, NotFound, NotAllowed, Unusable; Waiting, Retrying, Ready, Failed, Evicted."""
    name: str = ""
    """The WhisperModel's name, whether there is one yet or not."""
    uid: str | None = None
    argument: str = ""
    """What the runner's --model, or --adapter, takes."""
    repairs: int = 0
    message: str = ""
    """What is the matter, and how far a download is."""
    reason: str = ""
    """The reason of the WhisperModel's Ready condition."""
    failed_at: datetime | None = None
    last_job: str = ""
    """uid of the last Job that worked on its files."""

    @property
    def version(self) -> str | None:
        """Which state of the files a runner relies on: it changes with each repair."""
        return names.model_version(self.uid, self.repairs) if self.uid else None


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What a decision needs of any resource, and the moment at which it was read."""

    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    now: datetime
    status: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    deleting: bool = False

    @property
    def conditions(self) -> list[conditions.Condition]:
        """The resource's conditions as they are."""
        return list(self.status.get("conditions") or [])


def resource_fields(found: Object) -> dict[str, Any]:
    """The fields of a Resource, read from an object."""
    meta = found["metadata"]
    return {
        "name": meta["name"],
        "uid": meta["uid"],
        "generation": meta.get("generation") or 1,
        "resource_version": meta.get("resourceVersion") or "",
        "created": created_at(meta["creationTimestamp"]),
        "now": times.now(),
        "status": found.get("status") or {},
        "labels": meta.get("labels") or {},
        "annotations": meta.get("annotations") or {},
        "deleting": "deletionTimestamp" in meta,
    }


@dataclass(frozen=True, kw_only=True)
class Observed(Resource):
    """Everything that a decision about a TranscriptionJob depends on."""

    namespace: str
    spec: Spec | SpecError
    model: ModelState = ModelState("Absent")
    adapter: ModelState = ModelState("NotNeeded")
    job: JobView | None = None
    pods: Sequence[PodView] = ()
    warnings: Sequence[str] = ()
    """What events say of a Job without pods, or of a pod that waits without a word."""

    @property
    def finished(self) -> bool:
        """Complete or Failed: nothing more will be decided."""
        return conditions.is_true(self.conditions, conditions.COMPLETE) or conditions.is_true(
            self.conditions, conditions.FAILED
        )

    @property
    def job_name(self) -> str:
        """Name of its Job, whether there is one yet or not."""
        return names.runner_job_name(self.name, self.uid)


def created_at(text: str | None) -> datetime:
    """An object's creation time, which every object has."""
    moment = times.parse(text)
    if moment is None:
        raise ValueError("an object without a creation time")
    return moment


def job_view(job: Object) -> JobView:
    """Read a batch/v1 Job."""
    meta, spec, status = job["metadata"], job.get("spec") or {}, job.get("status") or {}
    owner: Object = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), {})
    ended: Object = next(
        (
            c
            for c in status.get("conditions") or []
            if c.get("type") in ("Complete", "Failed") and c.get("status") == "True"
        ),
        {},
    )
    return JobView(
        name=meta["name"],
        uid=meta["uid"],
        created=created_at(meta["creationTimestamp"]),
        owner_uid=owner.get("uid"),
        deleting="deletionTimestamp" in meta,
        suspended=bool(spec.get("suspend")),
        started_at=times.parse(status.get("startTime")),
        ended=ended.get("type"),
        ended_at=times.parse(status.get("completionTime") or ended.get("lastTransitionTime")),
        reason=ended.get("reason") or "",
        message=ended.get("message") or "",
        active=status.get("active") or 0,
        failed=status.get("failed") or 0,
        succeeded=status.get("succeeded") or 0,
        backoff_limit=int(spec.get("backoffLimit", 6)),
        annotations=meta.get("annotations") or {},
    )


def _trouble(pod: Object, waiting: Iterable[Mapping[str, Any]]) -> Trouble | None:
    for condition in pod["status"].get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            words = condition.get("message") or ""
            if condition.get("reason") != "Unschedulable":
                continue
            volume = "PersistentVolumeClaim" in words or "persistentvolumeclaim" in words
            return Trouble("VolumeNotBound" if volume else "Unschedulable", words)
    for state in waiting:
        reason = state.get("reason") or ""
        words = f"{reason}: {state.get('message') or 'no further word from the node'}"
        if reason in _PULL_REASONS:
            return Trouble("ImagePullFailed", words)
        if reason in _CONFIG_REASONS:
            return Trouble("ContainerConfigError", words)
    return None


def _ended_containers(status: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    ours = (names.CONTAINER, names.PREPARE_CONTAINER)
    states = ((c.get("name") or "", (c.get("state") or {}).get("terminated")) for c in every)
    return [(name, state) for name, state in states if name in ours and state]


def pod_view(pod: Object) -> PodView:
    """Read a pod of a runner's or a download's Job."""
    meta, status = pod["metadata"], pod.get("status") or {}
    pod = {**pod, "status": status}
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting = [w for c in every if (w := (c.get("state") or {}).get("waiting"))]
    runner: Object = next((c for c in every if c.get("name") == names.CONTAINER), {})
    runner_state = runner.get("state") or {}
    running = runner_state.get("running")
    phase = status.get("phase") or "Pending"
    view = PodView(
        name=meta["name"],
        uid=meta["uid"],
        phase=phase,
        created=created_at(meta["creationTimestamp"]),
        # A container that has just ended is no news before its pod, and then its Job, has ended too.
        running=phase == "Running" and ("running" in runner_state or "terminated" in runner_state),
        started_at=times.parse((running or runner_state.get("terminated") or {}).get("startedAt")),
        deleting="deletionTimestamp" in meta,
    )
    if phase == "Pending":
        trouble = _trouble(pod, waiting)
        scheduled = any(
            c.get("type") == "PodScheduled" and c.get("status") == "True" for c in status.get("conditions") or []
        )
        return replace(view, trouble=trouble, silent=scheduled and trouble is None)
    disruption = next(
        (
            c.get("message") or c.get("reason")
            for c in status.get("conditions") or []
            if c.get("type") == "DisruptionTarget" and c.get("status") == "True"
        ),
        None,
    )
    view = replace(
        view,
        disrupted=disruption,
        evicted=(status.get("message") or "the node ran out of a resource")
        if status.get("reason") == "Evicted"
        else None,
    )
    for _, state in _ended_containers(status):
        code = state.get("exitCode")
        if phase == "Succeeded" or code == 0:
            message = state.get("message") or ""
            found = receipt.parse(message)
            if isinstance(found, Receipt):
                return replace(view, receipt=found, exit_code=code, message=message)
            view = replace(view, message=view.message or message)
            continue
        return replace(view, **_failure(state))
    return view


def _failure(state: Mapping[str, Any]) -> dict[str, Any]:
    code = state.get("exitCode")
    found = receipt.parse(state.get("message"))
    fields: dict[str, Any] = {"exit_code": code, "oom_killed": state.get("reason") == "OOMKilled"}
    fields["message"] = state.get("message") or ""
    if isinstance(found, Failure):
        fields["failure"] = found
    elif isinstance(code, int) and code > 128:
        fields["signal"] = state.get("signal") or code - 128
    else:
        words = (state.get("message") or "").strip() or "it left no message; its log may tell more"
        fields["failure"] = Failure(receipt.class_of(code), f"exit code {code}: {words[-800:]}", code)
    return fields


def latest(pods: Iterable[PodView]) -> PodView | None:
    """The newest of several pods."""
    return max(pods, key=lambda pod: (pod.created, pod.name), default=None)


def failure_of(pod: PodView | None) -> Failure | None:
    """Why a pod failed, from the best that there is: its receipt, its node's words, its signal."""
    if pod is None:
        return None
    if pod.failure:
        return pod.failure
    if pod.oom_killed:
        return Failure(
            "OutOfMemory",
            "The container's memory limit was not enough and the kernel ended it (OOMKilled).",
            pod.exit_code,
            "Raise spec.resources.limits.memory, or take a smaller model.",
        )
    if pod.evicted:
        return Failure("Evicted", f"The node evicted the pod: {pod.evicted}", pod.exit_code)
    if pod.disrupted:
        return Failure("Evicted", f"The pod was disrupted: {pod.disrupted}", pod.exit_code)
    if pod.signal:
        return Failure(
            "RunnerKilled",
            f"The container was ended by signal {pod.signal} without leaving a receipt.",
            pod.exit_code,
            "Look at the node's and the container's logs; memory is the usual suspect.",
        )
    return None


def resource_view(found: Object) -> Observed:
    """Read the TranscriptionJob itself."""
    spec: Spec | SpecError
    try:
        spec = parse_spec(found.get("spec") or {})
    except SpecError as error:
        spec = error
    return Observed(namespace=found["metadata"]["namespace"], spec=spec, **resource_fields(found))
