"""The batch/v1 Job that runs one TranscriptionJob (docs/contracts.md, "Runner")."""

from __future__ import annotations

from dataclasses import dataclass

from transcription_operator import names
from transcription_operator import spec as specs
from transcription_operator.manifests import Manifest, pods, resources
from transcription_operator.settings import Settings
from transcription_operator.spec import Spec

TRANSCRIPTS_VOLUME = "transcripts"
OUTPUT_PREFIX = "TRANSCRIPTION_OUTPUT_"
"""Before the names of the output's own keys: those of two stores are called the same."""


@dataclass(frozen=True)
class Owner:
    """The TranscriptionJob that a Job belongs to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Model:
    """What the runner's --model, or --adapter, takes, and the WhisperModel that it comes from, if any."""

    argument: str
    name: str | None = None
    version: str | None = None


def _environment(owner: Owner, spec: Spec, settings: Settings) -> list[Manifest]:
    fixed = {
        "TRANSCRIPTION_JOB": f"{owner.namespace}/{owner.name}",
        "TRANSCRIPTION_JOB_UID": owner.uid,
        "TRANSCRIPTION_INLINE_LIMIT": str(settings.inline_limit_bytes),
        "TRANSCRIPTION_REPORT_PATIENCE": str(settings.runner.report_patience_seconds),
    }
    if not spec.fresh:
        fixed["HF_HUB_OFFLINE"] = "1"
    if not settings.cache.shared:
        fixed["TRANSCRIPTION_EPHEMERAL"] = "1"
    return [*pods.common_environment(settings), *pods.variables(fixed)]


def _volumes(spec: Spec, settings: Settings) -> list[Manifest]:
    transcripts = pods.cache_volume() if settings.cache.shared else {"name": TRANSCRIPTS_VOLUME, "emptyDir": {}}
    volumes = [transcripts, *pods.common_volumes(settings)]
    if spec.fresh:
        volumes.append({"name": "models", "emptyDir": {}})
    if isinstance(spec.audio, specs.VolumePath):
        claim = {"claimName": spec.audio.claim, "readOnly": True}
        volumes.append({"name": "audio", "persistentVolumeClaim": claim})
    if spec.output.volume:
        # Not the audio's volume even if the claim is the same: that one is read-only for the whole pod.
        claim = {"claimName": spec.output.volume.claim}
        volumes.append({"name": "output", "persistentVolumeClaim": claim})
    return volumes


def _models_mounts(spec: Spec, settings: Settings) -> list[Manifest]:
    """The pod's own folder, or the shared one, read-only; none where the image has all that is needed."""
    if spec.fresh:
        return [{"name": "models", "mountPath": pods.MODELS_MOUNT}]
    wishes = [spec.model, *([spec.adapter] if spec.adapter else [])]
    if not settings.cache.shared or all(wish.ref in settings.baked_models for wish in wishes):
        return []
    return [{"name": pods.CACHE_VOLUME, "mountPath": pods.MODELS_MOUNT, "subPath": "models", "readOnly": True}]


def _transcripts_mount(owner: Owner, settings: Settings) -> Manifest:
    """The job's own folder on the shared volume; without one, a folder that ends with the pod."""
    if not settings.cache.shared:
        return {"name": TRANSCRIPTS_VOLUME, "mountPath": pods.TRANSCRIPTS_MOUNT}
    return {
        "name": pods.CACHE_VOLUME,
        "mountPath": pods.TRANSCRIPTS_MOUNT,
        "subPath": names.transcripts_folder(owner.namespace, owner.name),
    }


def _mounts(owner: Owner, spec: Spec, settings: Settings) -> list[Manifest]:
    mounts = [
        *_models_mounts(spec, settings),
        _transcripts_mount(owner, settings),
        *pods.common_mounts(settings),
    ]
    if isinstance(spec.audio, specs.VolumePath):
        mounts.append({"name": "audio", "mountPath": specs.AUDIO_MOUNT, "readOnly": True})
    if spec.output.volume:
        mounts.append({"name": "output", "mountPath": specs.OUTPUT_MOUNT})
    return mounts


def _secrets(spec: Spec) -> list[Manifest]:
    """The source's keys under their own names; the output's, where it has others, with a prefix."""
    source, output = spec.credentials, spec.output.credentials
    found: list[Manifest] = [{"secretRef": {"name": source}}] if source else []
    if output and output != source:
        found.append({"prefix": OUTPUT_PREFIX, "secretRef": {"name": output}})
    return found


def _prepare(owner: Owner, settings: Settings) -> Manifest:
    """Makes the job's folder, so that a mount of it alone is possible."""
    folder = f"{pods.CACHE_MOUNT}/{names.transcripts_folder(owner.namespace, owner.name)}"
    return pods.container(
        names.PREPARE_CONTAINER,
        settings,
        args=["prepare-folder", folder],
        env=pods.variables({"HOME": "/tmp"}),  # noqa: S108
        resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        volumeMounts=[
            {"name": pods.CACHE_VOLUME, "mountPath": pods.CACHE_MOUNT},
            {"name": pods.TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108
        ],
    )


def _pod(owner: Owner, spec: Spec, model: Model, adapter: Model | None, settings: Settings) -> Manifest:
    runner = pods.container(
        names.CONTAINER,
        settings,
        args=specs.arguments(
            spec,
            model=model.argument,
            adapter=adapter.argument if adapter else None,
            output_name=owner.name,
            model_dir=pods.MODELS_MOUNT,
            output_dir=pods.TRANSCRIPTS_MOUNT,
        ),
        env=_environment(owner, spec, settings),
        envFrom=_secrets(spec),
        resources=resources.merge(settings.runner.resources, spec.pod.resources, device=spec.device),
        volumeMounts=_mounts(owner, spec, settings),
    )
    pod: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": names.SERVICE_ACCOUNT,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security_context(),
        "terminationGracePeriodSeconds": 30,
        **pods.pull_secrets(settings),
        "containers": [runner],
        "volumes": _volumes(spec, settings),
    }
    optional = {
        "initContainers": [_prepare(owner, settings)] if settings.cache.shared else [],
        "nodeSelector": dict(spec.pod.node_selector),
        "tolerations": [dict(t) for t in spec.pod.tolerations],
        "affinity": dict(spec.pod.affinity or {}),
        "priorityClassName": spec.pod.priority_class,
        "runtimeClassName": spec.pod.runtime_class,
    }
    return {**pod, **{key: value for key, value in optional.items() if value}}


def build(
    owner: Owner,
    spec: Spec,
    settings: Settings,
    *,
    model: Model,
    adapter: Model | None = None,
    attempts_before: int = 0,
    recreated_for: str | None = None,
) -> Manifest:
    """The Job. `queueName` has it created suspended: from then on its suspension is the queue's alone."""
    labels = {**names.labels("transcription-job", "runner"), names.LABEL_JOB: names.job_label(owner.name)}
    if model.name:
        labels[names.LABEL_MODEL] = model.name
    if adapter and adapter.name:
        labels[names.LABEL_ADAPTER] = adapter.name
    annotations = {names.ANNOTATION_JOB: owner.name}
    memory = {
        names.ANNOTATION_ATTEMPTS: str(attempts_before),
        names.ANNOTATION_MODEL_VERSION: model.version,
        names.ANNOTATION_ADAPTER_VERSION: adapter.version if adapter else None,
        names.ANNOTATION_RECREATED: recreated_for,
    }
    job_labels = {**labels, names.LABEL_QUEUE: spec.queue} if spec.queue else labels
    body: Manifest = {
        "parallelism": 1,
        "completions": 1,
        "completionMode": "NonIndexed",
        "backoffLimit": settings.runner.backoff_limit if spec.backoff_limit is None else spec.backoff_limit,
        # With a podFailurePolicy the API server allows nothing else; one GPU pod at a time in any case.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": pods.pod_failure_policy(
            names.CONTAINER, *([names.PREPARE_CONTAINER] if settings.cache.shared else [])
        ),
        "suspend": bool(spec.queue) or spec.suspend,
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod(owner, spec, model, adapter, settings),
        },
    }
    if spec.active_deadline is not None:
        body["activeDeadlineSeconds"] = spec.active_deadline
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.runner_job_name(owner.name, owner.uid),
            "namespace": owner.namespace,
            "labels": job_labels,
            "annotations": {**annotations, **{k: v for k, v in memory.items() if v is not None}},
            # No blockOwnerDeletion: it would ask for a right on the owner's finalizers, and buy nothing here.
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                }
            ],
        },
        "spec": body,
    }
