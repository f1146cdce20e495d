"""Reporting to the TranscriptionJob: progress on the way, the result at the end, by server-side apply."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from transcription_runner.apiserver import REFUSALS, ApiServer, Latest, StatusWriter
from transcription_runner.receipt import digest

MANAGER = "transcription-runner"
DEFAULT_INLINE_LIMIT = 262_144
DEFAULT_PATIENCE = 120.0

_BEGINNING = 4000
"""Characters of the text that a truncated result holds."""

_INTERVAL = 2.0
_PATIENCE_WITH_403 = 10.0
"""Seconds: a pod may be there before its RoleBinding, or before the operator has noted its Job in the status."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of a result: whether the API server has it, and the digest of what was written there."""

    delivered: bool
    digest: str
    truncated: bool


def inline(result: Mapping[str, Any], limit: int) -> tuple[dict[str, Any], bool]:
    """`status.result` for a result, and whether it was cut to its text's beginning: above `limit` bytes of JSON."""
    value = {str(key): _finite(item) for key, item in result.items()}
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")) <= limit:
        return value, False
    text = str(result.get("text", ""))[:_BEGINNING]
    encoded = text.encode("utf-8", "replace")[: limit or _BEGINNING]
    return {"text": encoded.decode("utf-8", "ignore"), "language": result.get("language"), "truncated": True}, True


def _finite(value: object) -> object:
    """JSON as the API server takes it: NaN and infinities, which JSON has not, are left out."""
    if isinstance(value, Mapping):
        return {
            str(key): _finite(item)
            for key, item in value.items()
            if not (isinstance(item, float) and not math.isfinite(item))
        }
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


class Reporter:
    """Reports to one TranscriptionJob. Progress never blocks nor fails the transcription; the result is tried hard."""

    def __init__(
        self,
        namespace: str,
        name: str,
        *,
        server: ApiServer,
        patience: float = DEFAULT_PATIENCE,
        inline_limit: int = DEFAULT_INLINE_LIMIT,
        interval: float = _INTERVAL,
    ) -> None:
        """Report to `namespace`/`name` at `server`; patience and interval in seconds."""
        self._writer = StatusWriter(
            server,
            kind="TranscriptionJob",
            plural="transcriptionjobs",
            manager=MANAGER,
            name=name,
            namespace=namespace,
        )
        self._patience = patience
        self._inline_limit = inline_limit
        self._interval = interval
        self._progress: dict[str, Any] | None = None
        self._latest = Latest(self._send, interval=interval)
        # Progress alone, applied after the result, would take the result away again: an apply replaces the last one.
        self._applying = threading.Lock()
        self._final = False

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ) -> Reporter | None:
        """The reporter of this pod; None where `TRANSCRIPTION_JOB` is not set or no API server is known."""
        job = environ.get("TRANSCRIPTION_JOB")
        if not job:
            return None
        namespace, _, name = job.partition("/")
        server = ApiServer.from_environment(environ)
        if not name or server is None:
            _log.warning("TRANSCRIPTION_JOB=%s, but no API server is known here: nothing will be reported", job)
            return None
        return Reporter(
            namespace,
            name,
            server=server,
            patience=_number(environ, "TRANSCRIPTION_REPORT_PATIENCE", DEFAULT_PATIENCE),
            inline_limit=int(_number(environ, "TRANSCRIPTION_INLINE_LIMIT", DEFAULT_INLINE_LIMIT)),
        )

    def progress(
        self, *, processed: float, total: float | None, speed: float | None, message: str, percent: int | None = None
    ) -> None:
        """Report where the transcription is (seconds of audio), soon and in another thread."""
        if percent is None:
            percent = int(min(max(100 * processed / total, 0), 99)) if total else 0
        self._progress = {
            "percent": percent,
            "processedSeconds": round(processed, 2),
            "totalSeconds": round(total or 0.0, 2),
            "speed": round(speed or 0.0, 2),
            "message": message[:1000],
            "updatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._latest.put(self._progress)

    def result(self, result: Mapping[str, Any], *, duration: float, speed: float | None) -> Delivery:
        """Report the result (and, since an apply replaces what was applied before, the last progress with it).

        Tries for as long as `patience` (seconds); never raises.
        """
        self._latest.stop(self._interval + 5)
        with self._applying:
            self._final = True
        value, truncated = inline(result, self._inline_limit)
        self.progress_value(duration, speed)
        outcome = self._insist({"progress": self._progress, "result": value})
        if outcome == 413 and not truncated:
            _log.warning("the API server finds the result too large: its beginning goes there")
            value, truncated = inline(result, 0)
            outcome = self._insist({"progress": self._progress, "result": value})
        return Delivery(delivered=outcome == 200, digest=digest(value), truncated=truncated)

    def progress_value(self, duration: float, speed: float | None) -> None:
        """Set the last progress: all of it."""
        self._progress = {
            "percent": 100,
            "processedSeconds": round(duration, 2),
            "totalSeconds": round(duration, 2),
            "speed": round(speed or 0.0, 2),
            "message": "transcribed",
            "updatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def stop(self) -> None:
        """Send the last progress if there is a new one, and end; a few seconds at most."""
        self._latest.stop(5)

    def _send(self, progress: dict[str, Any]) -> None:
        with self._applying:
            if not self._final and not self._writer.gone:
                self._writer.apply({"progress": progress}, timeout=5)

    def _insist(self, status: Mapping[str, Any]) -> int:
        """Apply until it succeeds (200), is refused for good (the answer's status), or patience ends (0)."""
        began = time.monotonic()
        wait = 0.5
        detail = "nothing was tried"
        told = False
        while not self._writer.gone:
            pause = wait
            try:
                code, pause_asked, detail = self._writer.apply(status, timeout=30)
                if code in (200, 201):
                    _log.info("delivered to %s", self._writer.shown)
                    return 200
                early = code == 403 and time.monotonic() - began < min(_PATIENCE_WITH_403, self._patience)
                if code in (404, 413) or (code in REFUSALS and not early):
                    return code
                pause = pause_asked if pause_asked is not None else wait
            except Exception as error:  # noqa: BLE001  # whatever it is, the result is durable and the receipt tells
                detail = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause - began > self._patience:
                _log.warning(
                    "the API server did not take the result in %.0f s (%s): it is in its file, and the receipt leads "
                    "to it",
                    self._patience,
                    detail,
                )
                return 0
            if not told:
                _log.warning("the API server did not take the result (%s): trying for %.0f s", detail, self._patience)
                told = True
            time.sleep(pause)
            wait = min(wait * 2, 10)
        return 404


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not math.isfinite(value) or value < 0:
        _log.warning("%s=%s is no number from 0 on: %s is used", name, text, default)
        return default
    return value
