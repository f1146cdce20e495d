"""Names that other parts rely on, and how deterministic names are made (docs/contracts.md, "Names")."""

from __future__ import annotations

import hashlib
import re

GROUP = "transcription.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TranscriptionJob"
PLURAL = "transcriptionjobs"
MODEL_KIND = "WhisperModel"
MODEL_PLURAL = "whispermodels"

FIELD_MANAGER = "transcription-operator"
CONTAINER = "runner"
PREPARE_CONTAINER = "prepare"

LABEL_JOB = f"{GROUP}/job"
LABEL_MODEL = f"{GROUP}/model"
"""On a runner Job: the WhisperModel that it uses."""
LABEL_ADAPTER = f"{GROUP}/adapter"
"""On a runner Job: the WhisperModel of its adapter."""
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
ANNOTATION_MODEL_VERSION = f"{GROUP}/model-version"
"""On a runner Job: which state of its WhisperModel it relies on, `<uid>.<repairs>`."""
ANNOTATION_ADAPTER_VERSION = f"{GROUP}/adapter-version"
"""The same of its adapter."""
ANNOTATION_RECREATED = f"{GROUP}/recreated-for"
"""On a runner Job: why the Job before it was given up."""
ANNOTATION_MODEL = f"{GROUP}/model"
"""On a model's Job: `repo@revision`, whose files it works on."""
ANNOTATION_WHISPER_MODEL = f"{GROUP}/whispermodel"
"""On a model's Job: the WhisperModel that it was made for."""
ANNOTATION_TASK = f"{GROUP}/task"
"""On a model's Job: download, repair, verify or remove."""
ANNOTATION_RETRIES = f"{GROUP}/retries"
"""On a model's Job: how often the operator had tried this before, in vain."""
ANNOTATION_REPAIRS = f"{GROUP}/repairs"
"""On a model's Job: how many repairs there have been once it succeeds."""
ANNOTATION_REPAIR = f"{GROUP}/repair"
"""On a WhisperModel: the version that a runner found damaged."""
ANNOTATION_WANTED = f"{GROUP}/wanted"
"""On a WhisperModel without files: the last Job's uid, after which a TranscriptionJob has asked for them again."""
ANNOTATION_RETRY = f"{GROUP}/retry"
"""On a WhisperModel, by people: any new value has a failed download tried again at once."""
ANNOTATION_VERIFY = f"{GROUP}/verify"
"""On a WhisperModel, by people: any new value has its files checked byte by byte."""
ANNOTATION_KEEP_FILES = f"{GROUP}/keep-files"
"""On a WhisperModel, by people: `true` has its deletion leave the files where they are."""
ANNOTATION_GENERATION = f"{GROUP}/finished-generation"
"""On a finished TranscriptionJob: the generation of which `expires-at` speaks."""
ANNOTATION_EXPIRES = f"{GROUP}/expires-at"
"""On a finished TranscriptionJob: when its time to live ends."""
ANNOTATION_VOLUME = f"{GROUP}/volume"
"""On a namespace's PersistentVolume: a hash of what it was made of."""

FINALIZER = f"{GROUP}/model-files"
"""Holds a WhisperModel until its files are removed."""

SERVICE_ACCOUNT = "transcription-runner"
DOWNLOAD_SERVICE_ACCOUNT = "transcription-download"
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


def _slug(repo: str, room: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", repo.lower()).strip("-")[:room].strip("-")


def model_job_name(repo: str, revision: str) -> str:
    """Name of the Job that works on one revision's files: one name, so that never two of them do so at once."""
    digest = _hash(f"{repo}@{revision}")
    room = _LABEL_LIMIT - _POD_SUFFIX - len("model--") - len(digest)
    return f"model-{_slug(repo, room)}-{digest}"


def model_resource_name(repo: str, revision: str) -> str:
    """Name of the WhisperModel that the operator makes: the same for every TranscriptionJob that asks."""
    digest = _hash(f"{repo}@{revision}")
    written = repo if revision == "main" else f"{repo}-{revision}"
    return f"{_slug(written, _LABEL_LIMIT - 1 - len(digest))}-{digest}"


def model_version(uid: str, repairs: int | str | None) -> str:
    """Which state of a WhisperModel's files a runner relies on: it changes with each repair."""
    return f"{uid}.{int(repairs or 0)}"


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
