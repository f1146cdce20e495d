"""Answers to probes, from a thread of its own: a dead event loop must not be able to say that it lives."""

from __future__ import annotations

import asyncio
import http.server
import logging
import threading
import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

_log = logging.getLogger(__name__)
_LOOP_PATIENCE = 60.0
_CONTACT_PATIENCE = 300.0
_BEAT = 1.0


class Health:
    """What is known of the operator's own state."""

    def __init__(self) -> None:
        self._beat = self._contact = time.monotonic()
        self._ready = False
        self._checks: dict[str, Callable[[], bool]] = {}

    def watch(self, name: str, check: Callable[[], bool]) -> None:
        """Add something that must be true of a living operator."""
        self._checks[name] = check

    async def beat(self) -> None:
        """Run in the event loop for good: it proves itself every second."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT)

    def started(self) -> None:
        """From now on it is ready unless something is wrong."""
        self._beat = time.monotonic()
        self._ready = True

    def contact(self) -> None:
        """The API server has answered."""
        self._contact = time.monotonic()

    def problems(self) -> list[str]:
        """Why the process should be restarted; usually nothing."""
        found = [name for name, check in self._checks.items() if not check()]
        silent = time.monotonic() - self._beat
        if self._ready and silent > _LOOP_PATIENCE:
            found.append(f"event loop silent for {silent:.0f} s")
        return found

    def unready(self) -> list[str]:
        """Why it does no work just now."""
        found = self.problems()
        if not self._ready:
            found.append("not started yet: waiting for the API server or the TranscriptionJob CRD")
        silent = time.monotonic() - self._contact
        if silent > _CONTACT_PATIENCE:
            found.append(f"no answer from the API server for {silent:.0f} s")
        return found


def serve(
    health: Health, port: int, host: str = "", *, metrics: Callable[[], bytes] = bytes
) -> http.server.ThreadingHTTPServer:
    """Serve /healthz, /readyz and /metrics; returns the running server (port 0 takes a free one)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            checks = {"/healthz": health.problems, "/readyz": health.unready}
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, metrics())
                return
            check = checks.get(path)
            problems = check() if check else []
            status = 404 if check is None else 503 if problems else 200
            body = ("\n".join(problems) or ("ok" if check else "not found")).encode() + b"\n"
            self._answer(status, "text/plain; charset=utf-8", body)

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            _log.debug(format, *args)

    server = http.server.ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
