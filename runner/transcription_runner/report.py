"""Reporting to the TranscriptionJob: progress on the way, the result at the end, by server-side apply."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transcription_runner.backoff import retry_after
from transcription_runner.receipt import digest

MANAGER = "transcription-runner"
API_VERSION = "transcription.dev/v1alpha1"
DEFAULT_INLINE_LIMIT = 262_144
DEFAULT_PATIENCE = 120.0
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_BEGINNING = 4000
"""Characters of the text that a truncated result holds."""

_INTERVAL = 2.0
_REFUSALS = {400, 403, 405, 422}
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
        server: str,
        service_account: Path = SERVICE_ACCOUNT,
        patience: float = DEFAULT_PATIENCE,
        inline_limit: int = DEFAULT_INLINE_LIMIT,
        interval: float = _INTERVAL,
    ) -> None:
        """Report to `namespace`/`name` at the API server at `server`; patience and interval in seconds."""
        self.name = name
        self.namespace = namespace
        self._server = server.rstrip("/")
        self._service_account = service_account
        self._patience = patience
        self._inline_limit = inline_limit
        self._interval = interval
        self._gone = False
        self._told: set[int] = set()
        self._latest: dict[str, Any] | None = None
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
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
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not name or not host:
            _log.warning("TRANSCRIPTION_JOB=%s, but no API server is known here: nothing will be reported", job)
            return None
        return Reporter(
            namespace,
            name,
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            service_account=Path(environ.get("TRANSCRIPTION_SERVICE_ACCOUNT") or SERVICE_ACCOUNT),
            patience=_number(environ, "TRANSCRIPTION_REPORT_PATIENCE", DEFAULT_PATIENCE),
            inline_limit=int(_number(environ, "TRANSCRIPTION_INLINE_LIMIT", DEFAULT_INLINE_LIMIT)),
        )

    def progress(
        self, *, processed: float, total: float | None, speed: float | None, message: str, percent: int | None = None
    ) -> None:
        """Report where the transcription is (seconds of audio), soon and in another thread."""
        if percent is None:
            percent = int(min(max(100 * processed / total, 0), 99)) if total else 0
        self._latest = {
            "percent": percent,
            "processedSeconds": round(processed, 2),
            "totalSeconds": round(total or 0.0, 2),
            "speed": round(speed or 0.0, 2),
            "message": message[:1000],
            "updatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._changed.set()
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._run, name="report", daemon=True)
            self._thread.start()

    def result(self, result: Mapping[str, Any], *, duration: float, speed: float | None) -> Delivery:
        """Report the result (and, since an apply replaces what was applied before, the last progress with it).

        Tries for as long as `patience` (seconds); never raises.
        """
        self._end_thread(timeout=self._interval + 5)
        with self._applying:
            self._final = True
        value, truncated = inline(result, self._inline_limit)
        self.progress_value(duration, speed)
        outcome = self._insist({"progress": self._latest, "result": value})
        if outcome == 413 and not truncated:
            _log.warning("the API server finds the result too large: its beginning goes there")
            value, truncated = inline(result, 0)
            outcome = self._insist({"progress": self._latest, "result": value})
        return Delivery(delivered=outcome == 200, digest=digest(value), truncated=truncated)

    def progress_value(self, duration: float, speed: float | None) -> None:
        """Set the last progress: all of it."""
        self._latest = {
            "percent": 100,
            "processedSeconds": round(duration, 2),
            "totalSeconds": round(duration, 2),
            "speed": round(speed or 0.0, 2),
            "message": "transcribed",
            "updatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def stop(self) -> None:
        """Send the last progress if there is a new one, and end; a few seconds at most."""
        self._end_thread(timeout=5)

    def _end_thread(self, timeout: float) -> None:
        self._stopping.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        while True:
            self._changed.wait()
            if self._gone:
                return
            self._changed.clear()
            last = self._stopping.is_set()
            if self._latest is not None:
                with self._applying, contextlib.suppress(Exception):
                    if not self._final:
                        self._apply({"progress": self._latest}, timeout=5)
            if last:
                return
            # What came in the meantime goes out before the end.
            if self._stopping.wait(self._interval) and not self._changed.is_set():
                return

    def _insist(self, status: Mapping[str, Any]) -> int:
        """Apply until it succeeds (200), is refused for good (the answer's status), or patience ends (0)."""
        began = time.monotonic()
        wait = 0.5
        detail = "nothing was tried"
        told = False
        while not self._gone:
            pause = wait
            try:
                code, pause_asked, detail = self._apply(status, timeout=30)
                if code in (200, 201):
                    _log.info("delivered to transcriptionjob %s/%s", self.namespace, self.name)
                    return 200
                early = code == 403 and time.monotonic() - began < min(_PATIENCE_WITH_403, self._patience)
                if code in (404, 413) or (code in _REFUSALS and not early):
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

    def _apply(self, status: Mapping[str, Any], *, timeout: float) -> tuple[int, float | None, str]:
        """One apply: the answer's status, the pause it asks for, and what it said."""
        import httpx2

        body = {
            "apiVersion": API_VERSION,
            "kind": "TranscriptionJob",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "status": status,
        }
        # Read each time: the kubelet replaces both while a pod runs.
        token = (self._service_account / "token").read_text().strip()
        authorities = self._service_account / "ca.crt"
        context: ssl.SSLContext | bool = True
        if authorities.exists():
            context = ssl.create_default_context(cafile=str(authorities))
        # The API server is inside the cluster: the proxies of the environment are not for it.
        with httpx2.Client(verify=context, trust_env=False, timeout=timeout) as client:
            response = client.patch(
                f"{self._server}/apis/{API_VERSION}/namespaces/{self.namespace}/transcriptionjobs/{self.name}/status",
                params={"fieldManager": MANAGER, "force": "true"},
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"},
                content=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            )
        code = response.status_code
        detail = f"{code}: {response.text[:500]}"
        where = f"transcriptionjob {self.namespace}/{self.name}"
        if code == 404:
            self._gone = True
            _log.warning("%s is gone: nothing more is reported to it", where)
        elif code in _REFUSALS and code not in self._told:
            self._told.add(code)
            _log.warning("the API server refuses a report for %s (%s)", where, detail)
        return code, retry_after(response.headers), detail


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
