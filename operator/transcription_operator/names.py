"""Names that other parts rely on, and how deterministic names are made (docs/contracts.md, "Names")."""

from __future__ import annotations

import hashlib
import re

GROUP = "transcription.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TranscriptionJob"
PLURAL = "transcriptionjobs"

FIELD_MANAGER = "transcription-operator"
CONTAINER = "runner"
PREPARE_CONTAINER = "prepare"

LABEL_JOB = f"{GROUP}/job"
LABEL_FINISHED = f"{GROUP}/finished"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
MANAGED_BY = "transcription-operator"

ANNOTATION_JOB = f"{GROUP}/job-name"
"""The TranscriptionJob's whole name: a label holds its first 63 characters only."""
ANNOTATION_ATTEMPTS = f"{GROUP}/attempts-before"
"""On a runner Job: how many pods had tried before this Job was made."""
ANNOTATION_MODEL_JOB = f"{GROUP}/model-job-uid"
"""On a runner Job: uid of the download Job that it relies on."""
ANNOTATION_RECREATED = f"{GROUP}/recreated-for"
"""On a runner Job: why the Job before it was given up."""
ANNOTATION_MODEL = f"{GROUP}/model"
"""On a download Job: `repo@revision`."""
ANNOTATION_RETRIES = f"{GROUP}/retries"
"""On a download Job: how often the operator has started it anew."""
ANNOTATION_GENERATION = f"{GROUP}/finished-generation"
"""On a finished TranscriptionJob: the generation of which `expires-at` speaks."""
ANNOTATION_EXPIRES = f"{GROUP}/expires-at"
"""On a finished TranscriptionJob: when its time to live ends."""
ANNOTATION_VOLUME = f"{GROUP}/volume"
"""On a namespace's PersistentVolume: a hash of what it was made of."""

SERVICE_ACCOUNT = "transcription-runner"
CLUSTER_ROLE = "transcription-runner"
ROLE_BINDING = "transcription-runner"
CACHE_CLAIM = "transcription-cache"
CA_CONFIG_MAP = "transcription-ca"
CA_KEY = "ca.pem"

_JOB_NAME_CUT = 44
_LABEL_LIMIT = 63
_POD_SUFFIX = 6


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def runner_job_name(name: str, uid: str) -> str:
    """Name of a TranscriptionJob's Job: at most 57 characters, so that pods are `<it>-<5 characters>`.

    Dots become dashes: a label of a DNS name may not begin with the dash that follows a cut one.
    """
    return f"tj-{name.replace('.', '-')[:_JOB_NAME_CUT].rstrip('-')}-{_hash(uid)}"


def download_job_name(repo: str, revision: str) -> str:
    """Name of the Job that downloads one revision of one repository: the same for everybody who asks."""
    digest = _hash(f"{repo}@{revision}")
    slug = re.sub(r"[^a-z0-9]+", "-", repo.lower()).strip("-")
    room = _LABEL_LIMIT - _POD_SUFFIX - len("model--") - len(digest)
    return f"model-{slug[:room].strip('-')}-{digest}"


def cache_volume_name(namespace: str) -> str:
    """Name of the PersistentVolume that gives a namespace the shared volume."""
    return f"{CACHE_CLAIM}-{namespace}"


def job_label(name: str) -> str:
    """A TranscriptionJob's name as a label's value."""
    return name[:_LABEL_LIMIT].rstrip("-.")


def labels(app: str, component: str) -> dict[str, str]:
    """The labels on everything that the operator makes."""
    return {LABEL_NAME: app, LABEL_MANAGED_BY: MANAGED_BY, LABEL_COMPONENT: component}


def transcripts_folder(namespace: str, name: str) -> str:
    """A TranscriptionJob's folder, relative to the shared volume's root."""
    return f"transcripts/{namespace}/{name}"
