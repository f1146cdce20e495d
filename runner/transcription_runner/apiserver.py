"""Server-side apply to one object's status, from a pod; and the sending of the latest of many values now and then."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_runner.backoff import retry_after

API_VERSION = "transcription.dev/v1alpha1"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFUSALS = {400, 403, 405, 422}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApiServer:
    """The cluster's API server, as a pod finds it."""

    url: str
    service_account: Path = SERVICE_ACCOUNT

    @staticmethod
    def from_environment(environ: Mapping[str, str]) -> ApiServer | None:
        """The one that every pod's environment names; None elsewhere."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            return None
        return ApiServer(
            url=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            service_account=Path(environ.get("TRANSCRIPTION_SERVICE_ACCOUNT") or SERVICE_ACCOUNT),
        )


class StatusWriter:
    """Applies to the status of one object."""

    def __init__(
        self, server: ApiServer, *, kind: str, plural: str, manager: str, name: str, namespace: str | None
    ) -> None:
        """Of the object `name`, in a namespace or cluster-scoped, as field manager `manager`."""
        self.shown = f"{kind.lower()} {namespace}/{name}" if namespace else f"{kind.lower()} {name}"
        self.gone = False
        self._server = server
        self._kind = kind
        self._manager = manager
        self._metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        scope = f"/namespaces/{namespace}" if namespace else ""
        self._path = f"{server.url.rstrip('/')}/apis/{API_VERSION}{scope}/{plural}/{name}/status"
        self._told: set[int] = set()

    def apply(self, status: Mapping[str, Any], *, timeout: float) -> tuple[int, float | None, str]:
        """One apply: the answer's status, the pause it asks for, and what it said. Raises whatever the network does."""
        import httpx2

        body = {"apiVersion": API_VERSION, "kind": self._kind, "metadata": self._metadata, "status": status}
        # Read each time: the kubelet replaces both while a pod runs.
        token = (self._server.service_account / "token").read_text().strip()
        authorities = self._server.service_account / "ca.crt"
        context: ssl.SSLContext | bool = True
        if authorities.exists():
            context = ssl.create_default_context(cafile=str(authorities))
        # The API server is inside the cluster: the proxies of the environment are not for it.
        with httpx2.Client(verify=context, trust_env=False, timeout=timeout) as client:
            response = client.patch(
                self._path,
                params={"fieldManager": self._manager, "force": "true"},
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"},
                content=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            )
        code = response.status_code
        detail = f"{code}: {response.text[:500]}"
        if code == 404:
            self.gone = True
            _log.warning("%s is gone: nothing more is reported to it", self.shown)
        elif code in REFUSALS and code not in self._told:
            self._told.add(code)
            _log.warning("the API server refuses a report for %s (%s)", self.shown, detail)
        return code, retry_after(response.headers), detail


class Latest:
    """Sends the latest of the values that it is given, one every `interval` seconds at most, in a thread of its own.

    A value that cannot be sent is lost; another one follows.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], *, interval: float) -> None:
        """Send by `send`, which may raise."""
        self._send = send
        self._interval = interval
        self._value: dict[str, Any] = {}
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, value: dict[str, Any]) -> None:
        """Have a value sent, soon."""
        self._value = value
        self._changed.set()
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._run, name="report", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Send the last value if it is a new one, and end; waits so many seconds at most."""
        self._stopping.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            last = self._stopping.is_set()
            with contextlib.suppress(Exception):
                self._send(self._value)
            if last:
                return
            # What came in the meantime goes out before the end.
            if self._stopping.wait(self._interval) and not self._changed.is_set():
                return
