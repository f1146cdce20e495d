"""A small client of an API server: what starting a cluster needs of it, and no more."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"


class ApiError(RuntimeError):
    """The server said no."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Api:
    """Requests as the identity of a kubeconfig."""

    def __init__(self, kubeconfig: Path, timeout: float = 10) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        server = urlsplit(config["clusters"][0]["cluster"]["server"])
        self._host = server.hostname or ""
        self._port = server.port or 443
        self._timeout = timeout
        self._context = _tls(config)

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """One request; JSON comes back parsed, anything else as text."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 300:
            raise ApiError(response.status, text)
        if response.getheader("Content-Type", "").startswith("application/json"):
            return json.loads(text)
        return text

    def get(self, path: str) -> Any:
        """Read one path."""
        return self.request("GET", path)

    def apply(self, path: str, manifest: dict[str, Any]) -> Any:
        """Server-side apply."""
        return self.request("PATCH", f"{path}?fieldManager=test-cluster&force=true", manifest, _APPLY)

    def patch(self, path: str, operations: list[dict[str, Any]]) -> Any:
        """A JSON patch."""
        return self.request("PATCH", path, operations, _JSON_PATCH)

    def ready(self) -> bool:
        """Whether the server calls itself ready."""
        try:
            return str(self.get("/readyz")) == "ok"
        except (OSError, ApiError, http.client.HTTPException):
            return False


def _tls(config: dict[str, Any]) -> ssl.SSLContext:
    cluster = config["clusters"][0]["cluster"]
    user = config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(pair)
    return context
