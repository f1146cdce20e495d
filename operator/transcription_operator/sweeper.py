"""Goes over all resources now and then: makes up for missed events, and ends the life of finished ones."""

from __future__ import annotations

import logging
import threading

from transcription_operator import access, names, times
from transcription_operator import api as k8s
from transcription_operator.api import Api, ApiError, Object
from transcription_operator.keys import AnyKey, Key, ModelKey
from transcription_operator.queue import WorkQueue

_log = logging.getLogger(__name__)
UNFINISHED = f"{names.LABEL_FINISHED}!=true"
FINISHED = f"{names.LABEL_FINISHED}=true"


def key_of(item: Object) -> Key:
    """The key of a TranscriptionJob, or of its metadata."""
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])


def is_due(item: Object) -> bool:
    """Whether a finished resource must be looked at: its time is over, or its spec has changed since."""
    meta = item["metadata"]
    annotations = meta.get("annotations") or {}
    if annotations.get(names.ANNOTATION_GENERATION) != str(meta.get("generation")):
        return True
    expires = times.parse(annotations.get(names.ANNOTATION_EXPIRES))
    return expires is not None and expires <= times.now()


class Sweeper:
    """One thread; only metadata travels, however large the results are."""

    def __init__(self, api: Api, queue: WorkQueue[AnyKey], *, interval: float = 300.0) -> None:
        self._api = api
        self._queue = queue
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Start; the first sweep comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the sweep in hand."""
        self._stop.set()

    @property
    def alive(self) -> bool:
        """Whether it still sweeps."""
        return self._thread.is_alive()

    def sweep(self) -> None:
        """One pass."""
        for item in self._api.list(k8s.WHISPER_MODELS, metadata_only=True):
            self._queue.add(ModelKey(item["metadata"]["name"]))
        for item in self._api.list(k8s.TRANSCRIPTION_JOBS, labels=UNFINISHED, metadata_only=True):
            self._queue.add(key_of(item))
        for item in self._api.list(k8s.TRANSCRIPTION_JOBS, labels=FINISHED, metadata_only=True):
            if is_due(item):
                self._queue.add(key_of(item))
        access.remove_abandoned_volumes(self._api)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.sweep()
            except ApiError as error:
                _log.warning("sweep: %s", error)
            except Exception:  # noqa: BLE001  (the next sweep may fare better)
                _log.exception("sweep")
            self._stop.wait(self._interval)
