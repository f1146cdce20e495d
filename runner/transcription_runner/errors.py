"""What can go wrong, as exceptions that carry a sysexits code, a class name for machines and a message for people.

The codes are a contract with the Job's podFailurePolicy (docs/contracts.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum


class Reason(StrEnum):
    """What kept a model from the cache, finer than the error's class; each has a line in docs/model-cache.md.

    It is the error's `reason` in a receipt, or the progress's where a download only takes long, and becomes the reason
    of a WhisperModel's condition.
    """

    REPOSITORY_NOT_FOUND = "RepositoryNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    UNAUTHORIZED = "Unauthorized"
    GATED_REPOSITORY = "GatedRepository"
    RATE_LIMITED = "RateLimited"
    HUB_SERVER_ERROR = "HubServerError"
    DNS_FAILURE = "DnsFailure"
    CONNECTION_FAILED = "ConnectionFailed"
    TLS_FAILURE = "TlsFailure"
    PROXY_FAILURE = "ProxyFailure"
    STALLED = "Stalled"
    VOLUME_FULL = "VolumeFull"
    VOLUME_READ_ONLY = "VolumeReadOnly"
    VOLUME_SLOW = "VolumeSlow"
    WRONG_OWNER = "WrongOwner"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    UNSAFE_WEIGHTS = "UnsafeWeights"
    NOT_A_WHISPER_MODEL = "NotAWhisperModel"
    BUCKET_NOT_FOUND = "BucketNotFound"
    OBJECTS_NOT_FOUND = "ObjectsNotFound"
    SOURCE_CHANGED = "SourceChanged"


class RunnerError(Exception):
    """A failure that the user can understand; `hint` says what to do about it."""

    exit_code = 70
    error_class = "Internal"

    def __init__(self, message: str, *, hint: str | None = None, reason: Reason | None = None) -> None:
        """Say what is wrong, and what to do about it; `reason` where machines may want to know more than the class."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.finer = reason

    @property
    def reason(self) -> str:
        """The finest name that the failure has: its Reason's, or its class's."""
        return str(self.finer or self.error_class)


class Usage(RunnerError):
    """Options that contradict one another or have values that mean nothing."""

    exit_code = 64
    error_class = "Usage"


class BadAudio(RunnerError):
    """The source was read, and it is not audio that can be decoded."""

    exit_code = 65
    error_class = "BadAudio"


class Internal(RunnerError):
    """A defect of the runner itself."""


class SourceMissing(RunnerError):
    """There is nothing at the source's address."""

    exit_code = 66
    error_class = "SourceMissing"


class ModelMissing(RunnerError):
    """The model is neither in the cache nor at the Hub."""

    exit_code = 66
    error_class = "ModelMissing"


class SourceUnreachable(RunnerError):
    """The host of the source, or of the model, did not answer or answered with a failure of its own."""

    exit_code = 69
    error_class = "SourceUnreachable"


class OutputFailed(RunnerError):
    """The result could not be written: no space, a broken disk."""

    exit_code = 74
    error_class = "OutputFailed"


class Temporary(RunnerError):
    """Worth another try as it is."""

    exit_code = 75
    error_class = "Temporary"


class OutOfMemory(RunnerError):
    """The device's or the container's memory was not enough."""

    exit_code = 75
    error_class = "OutOfMemory"


class PermissionDenied(RunnerError):
    """A file, a bucket or a repository refuses this user."""

    exit_code = 77
    error_class = "PermissionDenied"


class CorruptModelCache(RunnerError):
    """The cached model does not agree with its manifest, or does not load."""

    exit_code = 80
    error_class = "CorruptModelCache"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that led to it, the latest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
