"""The batch/v1 Job that downloads one model into the shared cache, without a GPU."""

from __future__ import annotations

from transcription_operator import names
from transcription_operator.manifests import Manifest, pods
from transcription_operator.models import ModelRef
from transcription_operator.settings import Settings

TOKEN_KEY = "token"  # noqa: S105  (the key's name inside the Secret)
BACKOFF_LIMIT = 3


def build(model: ModelRef, settings: Settings, *, retries: int = 0) -> Manifest:
    """The Job; the same name for the same model, so that there is one of it whoever asks."""
    labels = names.labels("transcription-model-download", "download")
    env = pods.common_environment(settings)
    if settings.hub.token_secret:
        ref = {"name": settings.hub.token_secret, "key": TOKEN_KEY}
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": ref}})
    download = pods.container(
        names.CONTAINER,
        settings,
        args=[
            "models",
            "download",
            model.repo,
            f"--revision={model.revision}",
            f"--model_dir={pods.CACHE_MOUNT}/models",
        ],
        env=env,
        resources=dict(settings.runner.download_resources),
        volumeMounts=[
            {"name": pods.CACHE_VOLUME, "mountPath": pods.CACHE_MOUNT},
            *pods.common_mounts(settings),
        ],
    )
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security_context(),
        **pods.pull_secrets(settings),
        "containers": [download],
        "volumes": [pods.cache_volume(), *pods.common_volumes(settings)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.download_job_name(model.repo, model.revision),
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": {names.ANNOTATION_MODEL: str(model), names.ANNOTATION_RETRIES: str(retries)},
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
