"""Which WhisperModel a TranscriptionJob means by its model or adapter, and what that one's status says to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from transcription_operator import models, names, times
from transcription_operator.conditions import READY, Condition, is_true
from transcription_operator.conditions import find as find_condition
from transcription_operator.errors import SpecError
from transcription_operator.manifests import pods
from transcription_operator.models import ModelRef, ModelWish
from transcription_operator.settings import ModelSettings, Settings
from transcription_operator.views import ModelState, Object
from transcription_operator.whispermodel.spec import HubSource, ModelSpec, parse
from transcription_operator.whispermodel.views import held_up


def _spec(item: Object) -> ModelSpec | None:
    try:
        return parse(item["metadata"]["name"], item.get("spec") or {})
    except SpecError:
        return None


def _is_ready(item: Object) -> bool:
    return is_true((item.get("status") or {}).get("conditions") or [], READY)


def find(wish: ModelWish, every: Iterable[Object]) -> Object | None:
    """The WhisperModel of that very name; else one with that repository and revision: Ready first, then the oldest."""
    every = list(every)
    for item in every:
        if wish.name and item["metadata"]["name"] == wish.name:
            return item
    fitting = [i for i in every if wish.ref and (s := _spec(i)) and s.source == HubSource(wish.ref)]
    order = sorted(fitting, key=lambda i: ("deletionTimestamp" in i["metadata"], not _is_ready(i), _age(i)))
    return order[0] if order else None


def _age(item: Object) -> tuple[str, str]:
    return item["metadata"]["creationTimestamp"], item["metadata"]["name"]


def state(wish: ModelWish, every: Iterable[Object], policy: ModelSettings) -> ModelState:
    """The state of what a TranscriptionJob asks for."""
    every = list(every)
    found = find(wish, every)
    if found is not None:
        return _state_of(found)
    if wish.ref is None:
        message = _not_found(wish, [item["metadata"]["name"] for item in every])
        return ModelState("NotFound", str(wish), message=message)
    name = names.model_resource_name(wish.ref.repo, wish.ref.revision)
    if not policy.create:
        message = f"There is no WhisperModel for {wish.ref}, and here none is made for a job (models.create is false)."
    elif not _is_allowed(wish.ref, policy):
        message = _forbidden(wish.ref, policy)
    else:
        return ModelState("Absent", name, argument=wish.ref.argument)
    return ModelState("NotAllowed", name, message=f"{message} {_ASK}")


def _not_found(wish: ModelWish, every: Sequence[str]) -> str:
    if wish.adapter:
        field, what = "spec.adapter", f"There is no WhisperModel {wish}, which is this job's adapter."
    else:
        short, guess = ", ".join(models.SHORT_NAMES), models.guess(str(wish), every)
        field, what = "spec.model", f"{wish} is neither a short name ({short}) nor a WhisperModel.{guess}"
    return (
        f"{what} Apply a WhisperModel of this name and this job goes on by itself; "
        f"or set {field} to another one, which may change until the work starts."
    )


def fresh(wish: ModelWish, every: Iterable[Object], policy: ModelSettings) -> ModelState:
    """With `cache: Fresh` the pod downloads the model for itself, which only works with one of the Hub."""
    if wish.ref is not None and _is_allowed(wish.ref, policy):
        return ModelState("NotNeeded", argument=wish.ref.argument)
    found = find(wish, every)
    spec = _spec(found) if found else None
    if spec is None and wish.ref is not None:
        return ModelState("NotAllowed", message=f"{_forbidden(wish.ref, policy)} {_ASK}")
    if spec is None:
        return state(wish, (), policy)
    if isinstance(spec.source, HubSource):
        return ModelState("NotNeeded", argument=spec.source.ref.argument)
    message = f"cache: Fresh downloads from the Hub, and WhisperModel {wish} is {spec.origin}: leave spec.cache out."
    return ModelState("Unusable", spec.name, message=message)


def without_cache(wish: ModelWish, settings: Settings) -> ModelState | None:
    """A model that the runner's image has; or that there is no shared volume to have another one in. Else None."""
    if wish.ref in settings.baked_models:
        return ModelState("Baked", argument=wish.ref.argument)
    if settings.cache.shared:
        return None
    message = (
        f"{wish} is not in the runner's image (runner.bakedModels), and there is no shared volume to download it to. "
        "Name a model that the image has, set cache: Fresh, or give the operator a cache.volume."
    )
    return ModelState("NoVolume", message=message)


_ASK = (
    "Ask the cluster's administrator for a WhisperModel of it, or for a change of the operator's settings; "
    "then apply this again."
)


def _is_allowed(ref: ModelRef, policy: ModelSettings) -> bool:
    return any(fnmatchcase(ref.repo, pattern) for pattern in policy.allow)


def _forbidden(ref: ModelRef, policy: ModelSettings) -> str:
    allowed = ", ".join(policy.allow) or "none"
    return f"{ref.repo} is not among the models that jobs may bring here (models.allow: {allowed})."


def _state_of(item: Object) -> ModelState:
    meta, status = item["metadata"], item.get("status") or {}
    spec = _spec(item)
    ready = find_condition(status.get("conditions") or [], READY)
    kind, message = _verdict(meta, status, ready)
    return ModelState(
        kind,
        meta["name"],
        meta["uid"],
        argument=spec.argument(pods.MODELS_MOUNT) if spec else "",
        repairs=int(status.get("repairs") or 0),
        message=message,
        reason=str(ready.get("reason") or ""),
        failed_at=times.parse(status.get("failedAt")),
        last_job=str(status.get("lastJob") or ""),
    )


def _verdict(meta: Object, status: Object, ready: Condition) -> tuple[str, str]:
    """A ModelState's status and message."""
    annotations = meta.get("annotations") or {}
    message = str(ready.get("message") or "")
    last_job = status.get("lastJob")
    if "deletionTimestamp" in meta:
        return "Waiting", "It is being deleted, and made anew when it is gone."
    match status.get("phase"):
        case "Ready":
            if annotations.get(names.ANNOTATION_REPAIR) == names.model_version(meta["uid"], status.get("repairs")):
                return "Waiting", "Its repair has been asked for."
            return "Ready", ""
        case "Failed" | "Evicted" if last_job and annotations.get(names.ANNOTATION_WANTED) == last_job:
            return "Waiting", "It has been asked for again."
        case "Failed":
            return "Failed", message
        case "Evicted" if ready.get("reason") == "Evicted":
            return "Evicted", message
    if (status.get("retry") or {}).get("at"):
        return "Retrying", message
    reason = ready.get("reason")
    if reason and reason == held_up(status):
        message = f"{reason}: {message}"
    return "Waiting", f"{_progress(status)} {message}".strip()


def _progress(status: Object) -> str:
    """How far a download is, in steps of ten percent: what changes at each look would be written at each."""
    progress: dict[str, Any] = status.get("progress") or {}
    percent = int(progress.get("percent") or 0) // 10 * 10
    if status.get("phase") not in ("Downloading", "Corrupt") or not percent:
        return ""
    parts = [f"{percent} %"]
    if total := progress.get("totalBytes"):
        parts[0] += f" of {_size(total)}"
    if speed := progress.get("bytesPerSecond"):
        parts.append(f"{_size(speed)}/s")
    if eta := progress.get("etaSeconds"):
        parts.append(f"{int(eta)} s left")
    return ", ".join(parts) + "."


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def missing(ref: ModelRef) -> Object:
    """The WhisperModel that the operator makes for a job."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.MODEL_KIND,
        "metadata": {
            "name": names.model_resource_name(ref.repo, ref.revision),
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "finalizers": [names.FINALIZER],
        },
        "spec": {"source": {"hub": {"repo": ref.repo, "revision": ref.revision}}},
    }
