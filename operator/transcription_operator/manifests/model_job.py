"""The batch/v1 Job that works on one model's files in the shared cache, without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from transcription_operator import names
from transcription_operator.manifests import Manifest, pods
from transcription_operator.settings import Settings
from transcription_operator.whispermodel.spec import HubSource, ModelSpec, UrlSource
from transcription_operator.whispermodel.views import Task

TOKEN_KEY = "token"  # noqa: S105  (the key's name inside the Secret)
BACKOFF_LIMIT = 3
MODELS_FOLDER = f"{pods.CACHE_MOUNT}/models"


@dataclass(frozen=True)
class Work:
    """What the Job is for, and what it has to remember for the operator."""

    task: Task
    retries: int = 0
    repairs: int = 0


def arguments(spec: ModelSpec, task: Task) -> list[str]:
    """The runner's command line. A repair is a download that does not stop at a quick look at what is there: it
    compares every file with its hash, and fetches those that do not hold."""
    folder = f"--model_dir={MODELS_FOLDER}"
    if task in (Task.DOWNLOAD, Task.REPAIR):
        thorough = ["--refresh"] if task is Task.REPAIR else []
        if isinstance(spec.source, UrlSource):
            return ["models", "download", spec.source.url, f"--name={spec.ref.repo}", folder, *thorough]
        return ["models", "download", spec.ref.repo, f"--revision={spec.ref.revision}", folder, *thorough]
    if task is Task.VERIFY:
        return ["models", "verify", spec.argument(MODELS_FOLDER), folder]
    return ["models", "remove", spec.ref.argument, "--missing_ok", folder]


def _environment(spec: ModelSpec, settings: Settings) -> list[Manifest]:
    env = pods.common_environment(settings)
    token = spec.token_secret or settings.hub.token_secret
    if token and isinstance(spec.source, HubSource):
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": token, "key": TOKEN_KEY}}})
    return [*env, *pods.variables({"TRANSCRIPTION_MODEL": spec.name})]


def build(spec: ModelSpec, settings: Settings, work: Work) -> Manifest:
    """The Job; the same name for the same files, so that there is one of it whoever asks and whatever it does."""
    labels = names.labels("transcription-model-download", "download")
    # What a removal or a look at the files does not need, it is not given.
    online = work.task in (Task.DOWNLOAD, Task.REPAIR)
    credentials = [{"secretRef": {"name": spec.credentials}}] if spec.credentials and online else []
    worker = pods.container(
        names.CONTAINER,
        settings,
        args=arguments(spec, work.task),
        env=_environment(spec, settings),
        envFrom=credentials,
        resources=dict(settings.runner.download_resources),
        volumeMounts=[
            {"name": pods.CACHE_VOLUME, "mountPath": pods.CACHE_MOUNT},
            *pods.common_mounts(settings),
        ],
    )
    pod: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": names.DOWNLOAD_SERVICE_ACCOUNT,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security_context(),
        **pods.pull_secrets(settings),
        "containers": [worker],
        "volumes": [pods.cache_volume(), *pods.common_volumes(settings)],
    }
    annotations = {
        names.ANNOTATION_MODEL: str(spec.ref),
        names.ANNOTATION_WHISPER_MODEL: spec.name,
        names.ANNOTATION_TASK: work.task.value,
        names.ANNOTATION_RETRIES: str(work.retries),
        names.ANNOTATION_REPAIRS: str(work.repairs),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.model_job_name(spec.ref.repo, spec.ref.revision),
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": BACKOFF_LIMIT,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": pods.pod_failure_policy(names.CONTAINER),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
