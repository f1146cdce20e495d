"""Reporting a download's progress to the WhisperModel that asked for it, by server-side apply."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from transcription_runner.apiserver import ApiServer, Latest, StatusWriter

MANAGER = "transcription-download"

_INTERVAL = 2.0
_TIMEOUT = 5.0

_log = logging.getLogger(__name__)


class ModelReporter:
    """Writes `status.progress` of one WhisperModel; never blocks nor fails the download."""

    def __init__(self, name: str, server: ApiServer, *, interval: float = _INTERVAL) -> None:
        """Report to the WhisperModel `name`, every `interval` seconds at most."""
        self._writer = StatusWriter(
            server, kind="WhisperModel", plural="whispermodels", manager=MANAGER, name=name, namespace=None
        )
        self._latest = Latest(self._send, interval=interval)

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ) -> ModelReporter | None:
        """The reporter of a download Job; None where `TRANSCRIPTION_MODEL` is not set or no API server is known."""
        name = environ.get("TRANSCRIPTION_MODEL")
        if not name:
            return None
        server = ApiServer.from_environment(environ)
        if server is None:
            _log.warning("TRANSCRIPTION_MODEL=%s, but no API server is known here: nothing will be reported", name)
            return None
        return ModelReporter(name, server)

    def progress(self, value: dict[str, Any]) -> None:
        """Report `status.progress`, soon and in another thread."""
        self._latest.put(value)

    def stop(self) -> None:
        """Send the last progress if there is a new one, and end; a few seconds at most."""
        self._latest.stop(_TIMEOUT + 1)

    def _send(self, value: dict[str, Any]) -> None:
        if not self._writer.gone:
            self._writer.apply({"progress": value}, timeout=_TIMEOUT)
