"""The receipt: what a pod leaves in its termination message, and the digest of a value."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transcription_runner.errors import RunnerError
from transcription_runner.redact import scrub

LIMIT = 3072
"""Bytes: a termination message may have 4096, and all containers of a pod 12288."""

VERSION = 1

_log = logging.getLogger(__name__)


def digest(value: object) -> str:
    """The sha256 of a JSON value, the same however its numbers and keys were written.

    The API server returns `1.0` as `1`, so the value is hashed and not its bytes: sorted keys, no spaces, UTF-8, every
    number as `repr(float(n) + 0.0)`.
    """
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return repr(float(value) + 0.0)  # without the sign of -0.0, which not every JSON writer keeps
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(key), ensure_ascii=False)}:{_canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    return _canonical(float(value))  # type: ignore[arg-type]  # numpy's numbers


def error_entry(error: RunnerError) -> dict[str, Any]:
    """The receipt's `error`."""
    return {
        "class": error.error_class,
        "reason": error.reason,
        "code": error.exit_code,
        "message": scrub(error.message),
        "hint": scrub(error.hint) if error.hint else None,
    }


def encode(receipt: Mapping[str, Any], limit: int = LIMIT) -> bytes:
    """JSON of at most `limit` bytes: the long texts (text, message, hint, paths) are cut between characters."""
    value = json.loads(json.dumps(receipt, ensure_ascii=False, default=str))
    data = _dump(value)
    longest = max(limit // 2, 16)
    while len(data) > limit and longest >= 16:
        value = _cut(value, longest)
        data = _dump(value)
        longest = longest * 2 // 3
    return data


def _dump(value: object) -> bytes:
    # A lone surrogate (a file name that is no UTF-8) must not lose the receipt.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        return value if len(data) <= longest else data[: longest - 3].decode("utf-8", "ignore") + "…"
    if isinstance(value, dict):
        return {key: _cut(item, longest) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, longest) for item in value]
    return value


def write(receipt: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
    """Write the receipt to `TRANSCRIPTION_TERMINATION_LOG`, if that is set; never raises for that file's sake."""
    target = environ.get("TRANSCRIPTION_TERMINATION_LOG")
    if not target:
        return
    try:
        # The kubelet's file is a bind mount: it is written in place, for it cannot be renamed over.
        with Path(target).open("wb") as stream:
            stream.write(encode(receipt))
    except OSError as error:
        _log.warning("the receipt could not be written to %s: %s", target, error)


def failure(error: RunnerError) -> dict[str, Any]:
    """The receipt of a transcription that failed."""
    return {"version": VERSION, "error": error_entry(error)}
