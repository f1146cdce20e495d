"""What a model's Job says at its end (its termination message; docs/contracts.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """A model's files, the volume they are on, and what was moved. None: not said."""

    commit: str | None = None
    bytes: int | None = None
    files: int | None = None
    cache_bytes: int | None = None
    cache_free_bytes: int | None = None
    downloaded_bytes: int | None = None
    resumed_bytes: int | None = None
    written_bytes: int | None = None
    seconds: float | None = None
    removed_bytes: int | None = None

    @property
    def transferred(self) -> bool:
        """Whether a download did more than a quick look at files that were there already."""
        return bool(self.downloaded_bytes or self.resumed_bytes)

    @property
    def facts(self) -> dict[str, Any]:
        """What of it belongs into the status."""
        found = {"commit": self.commit, "bytes": self.bytes, "files": self.files}
        return {key: value for key, value in found.items() if value is not None}


def _number(part: Mapping[str, Any], key: str) -> int | None:
    value = part.get(key)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def parse(message: str) -> Report:
    """Read a termination message, also one that tells of a failure; what is not there or odd is left out."""
    try:
        document = json.loads(message)
        if not isinstance(document, Mapping):
            return Report()
        model, cache = _part(document, "model"), _part(document, "cache")
        transfer, removed = _part(document, "transfer"), _part(document, "removed")
        commit = model.get("commit")
        seconds = transfer.get("seconds")
        return Report(
            commit=commit[:64] if isinstance(commit, str) and commit else None,
            bytes=_number(model, "bytes"),
            files=_number(model, "files"),
            cache_bytes=_number(cache, "bytes"),
            cache_free_bytes=_number(cache, "freeBytes"),
            downloaded_bytes=_number(transfer, "bytesDownloaded"),
            resumed_bytes=_number(transfer, "bytesResumed"),
            written_bytes=_number(transfer, "bytesWritten"),
            seconds=float(seconds) if isinstance(seconds, (int, float)) and seconds >= 0 else None,
            removed_bytes=_number(removed, "bytes"),
        )
    except (ValueError, OverflowError):
        return Report()
