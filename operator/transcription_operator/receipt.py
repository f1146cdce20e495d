"""A pod's receipt (its termination message) and the digest that ties it to a result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

_CLASS_OF_CODE = {
    64: "Usage",
    65: "BadAudio",
    66: "SourceMissing",
    69: "SourceUnreachable",
    70: "Internal",
    74: "OutputFailed",
    75: "Temporary",
    77: "PermissionDenied",
    80: "CorruptModelCache",
}


@dataclass(frozen=True)
class Failure:
    """Why a pod ended, in the runner's own words."""

    error_class: str
    message: str
    code: int | None = None
    hint: str | None = None
    reason: str | None = None
    """Finer than the class, where there is a finer one: RateLimited, VolumeFull, …"""

    @property
    def name(self) -> str:
        """The finest name for it: a condition's reason."""
        return self.reason or self.error_class

    def __str__(self) -> str:
        message = self.message.strip()
        return f"{message} {self.hint.strip()}" if self.hint and self.hint.strip() not in message else message


@dataclass(frozen=True)
class Receipt:
    """What a finished pod says about its result."""

    digest: str
    sha256: str
    bytes: int
    path: str | None = None
    url: str | None = None
    text: str = ""
    language: str | None = None
    duration: float | None = None
    segments: int | None = None
    delivered: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    cache_bytes_read: int = 0
    """Bytes of the model that came out of the shared cache."""

    @property
    def reference(self) -> dict[str, Any]:
        """`status.resultRef`."""
        ref = {"path": self.path, "url": self.url, "sha256": self.sha256, "bytes": self.bytes}
        return {key: value for key, value in ref.items() if value is not None}


def parse(message: str | None) -> Receipt | Failure | None:
    """Read a termination message; None if it is no receipt.

    Nothing in it is trusted to have the right shape: the process that wrote it decoded hostile media.
    """
    try:
        document = json.loads(message or "")
        if "error" in document:
            return failure(document["error"])
        result = document["result"]
        timings = document.get("timings") or {}
        return Receipt(
            digest=str(result["digest"]),
            sha256=str(result["sha256"]),
            bytes=int(result["bytes"]),
            path=str(result["path"]) if result.get("path") else None,
            url=str(result["url"]) if result.get("url") else None,
            text=str(document.get("text") or ""),
            language=str(document["language"]) if document.get("language") else None,
            duration=float(document["duration"]) if document.get("duration") is not None else None,
            segments=int(document["segments"]) if document.get("segments") is not None else None,
            delivered=document.get("delivered") is True,
            timings={str(k): float(v) for k, v in timings.items()},
            cache_bytes_read=max(int((document.get("cache") or {}).get("bytesRead") or 0), 0),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def failure(error: Any) -> Failure:
    """Read the `error` of a termination message; raises what a wrong shape raises."""
    code = error.get("code")
    return Failure(
        error_class=_name(error.get("class")) or class_of(code),
        message=str(error.get("message") or "no message"),
        code=code if isinstance(code, int) else None,
        hint=str(error["hint"]) if error.get("hint") else None,
        reason=_name(error.get("reason")),
    )


def _name(value: object) -> str | None:
    """A condition's reason must be CamelCase; anything else in its place is ignored."""
    return value if isinstance(value, str) and value.isalnum() and value[0].isupper() and len(value) < 64 else None


def class_of(code: object) -> str:
    """The class of an exit code without a receipt."""
    return _CLASS_OF_CODE.get(code, "Internal") if isinstance(code, int) else "Internal"


def _canonical(value: object) -> object:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return float(value) + 0.0  # -0.0 comes back from the API server as 0
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no JSON")


def digest(value: object) -> str:
    """sha256 of a JSON value, not of its bytes: the API server writes `1.0` as `1` (docs/contracts.md)."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
