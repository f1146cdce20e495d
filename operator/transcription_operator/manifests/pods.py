"""What the runner's and the download's pods have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transcription_operator import names
from transcription_operator.manifests import Manifest
from transcription_operator.settings import Settings

UID = 10001
CACHE_MOUNT = "/cache"
MODELS_MOUNT = "/models"
TRANSCRIPTS_MOUNT = "/transcripts"
CA_MOUNT = "/etc/transcription-ca"
TERMINATION_LOG = "/dev/termination-log"
CACHE_VOLUME = "cache"
TMP_VOLUME = "tmp"
CA_VOLUME = "ca"

FINAL_EXIT_CODES = (64, 65, 66, 77, 80)
"""Trying again cannot help: the audio, the name, the permission or the cache is wrong."""


def security_context() -> Manifest:
    """Of every container: what PodSecurity's `restricted` asks for, and a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security_context() -> Manifest:
    """Of every pod: the owner of the shared volume."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        # Walking a shared volume of terabytes to change owners would take hours at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def variables(values: Mapping[str, str]) -> list[Manifest]:
    """Environment variables from a mapping."""
    return [{"name": name, "value": value} for name, value in values.items()]


def common_environment(settings: Settings) -> list[Manifest]:
    """Variables of every pod: the settings' own first, so that what the contract fixes comes last and wins."""
    values = {"HOME": "/tmp"}  # noqa: S108  (the only writable folder of the pod)
    if settings.hub.endpoint:
        values["HF_ENDPOINT"] = settings.hub.endpoint
    if settings.runner.ca_bundle:
        values["TRANSCRIPTION_CA_BUNDLE"] = f"{CA_MOUNT}/{names.CA_KEY}"
    return [*map(dict, settings.runner.env), *variables(values)]


def container(name: str, settings: Settings, *, env: Sequence[Manifest], **fields: Any) -> Manifest:
    """A container of the runner's image, with a place for its receipt."""
    return {
        "name": name,
        "image": settings.runner_image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": security_context(),
        # Without a receipt the log's end says why: better than nothing when the interpreter itself dies.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "terminationMessagePath": TERMINATION_LOG,
        "env": [*env, *variables({"TRANSCRIPTION_TERMINATION_LOG": TERMINATION_LOG})],
        **fields,
    }


def cache_volume() -> Manifest:
    """The shared volume."""
    return {"name": CACHE_VOLUME, "persistentVolumeClaim": {"claimName": names.CACHE_CLAIM}}


def common_volumes(settings: Settings) -> list[Manifest]:
    """The scratch folder, and the CA bundle where there is one."""
    volumes: list[Manifest] = [{"name": TMP_VOLUME, "emptyDir": {}}]
    if settings.runner.ca_bundle:
        volumes.append({"name": CA_VOLUME, "configMap": {"name": names.CA_CONFIG_MAP}})
    return volumes


def common_mounts(settings: Settings) -> list[Manifest]:
    """Mounts of the common volumes."""
    mounts: list[Manifest] = [{"name": TMP_VOLUME, "mountPath": "/tmp"}]  # noqa: S108
    if settings.runner.ca_bundle:
        mounts.append({"name": CA_VOLUME, "mountPath": CA_MOUNT, "readOnly": True})
    return mounts


def pod_failure_policy(*containers: str) -> Manifest:
    """Disruptions do not count, hopeless failures end the Job, the rest is tried again."""
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            *(
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": name, "operator": "In", "values": list(FINAL_EXIT_CODES)},
                }
                for name in containers
            ),
        ]
    }


def pull_secrets(settings: Settings) -> Manifest:
    """`imagePullSecrets`, if any."""
    if not settings.image_pull_secrets:
        return {}
    return {"imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets]}
