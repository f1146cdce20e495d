"""What Prometheus is told of the models, in a registry of its own."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from transcription_operator.receipt import Failure
from transcription_operator.whispermodel.report import Report
from transcription_operator.whispermodel.views import Task

PHASES = ("Pending", "Downloading", "Verifying", "Ready", "Corrupt", "Failed", "Evicted", "Deleting")
_SECONDS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)


class _Models:
    """Gauges of what there is now: of a model that is gone nothing stays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[str, int]] = {}

    def set(self, name: str, phase: str, users: int) -> None:
        with self._lock:
            self._seen[name] = phase, users

    def forget(self, name: str) -> None:
        with self._lock:
            self._seen.pop(name, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            seen = dict(self._seen)
        phases = GaugeMetricFamily("transcription_models", "WhisperModels by their phase.", labels=["phase"])
        counts = Counts(phase for phase, _ in seen.values())
        for phase in PHASES:
            phases.add_metric([phase], counts[phase])
        users = GaugeMetricFamily(
            "transcription_model_users", "Runner Jobs that use a model and have not ended.", labels=["model"]
        )
        for name, (_, number) in seen.items():
            users.add_metric([name], number)
        yield phases
        yield users


class Metrics:
    """All of them. Counters begin at 0 with each start of the operator, as Prometheus expects."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models = _Models()
        self.registry.register(self._models)
        prefix, registry = "transcription_model", self.registry
        self._cache_bytes = Gauge(f"{prefix}_cache_bytes", "Bytes of models in the shared cache.", registry=registry)
        self._free_bytes = Gauge(f"{prefix}_cache_free_bytes", "Bytes free on the shared volume.", registry=registry)
        self._downloads = Counter(
            f"{prefix}_downloads", "Downloads and repairs by how they ended.", ["result", "reason"], registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_download_seconds", "Length of successful downloads.", buckets=_SECONDS, registry=registry
        )
        self._downloaded = Counter(f"{prefix}_download_bytes", "Bytes fetched from sources.", registry=registry)
        self._written = Counter(f"{prefix}_written_bytes", "Bytes written to the shared volume.", registry=registry)
        self._read = Counter(f"{prefix}_read_bytes", "Bytes that runners read from the cache.", registry=registry)
        self._requests = Counter(
            f"{prefix}_requests", "Jobs that found their model in the cache, or had to wait.", ["result"],
            registry=registry,
        )  # fmt: skip
        self._verify_failures = Counter(
            f"{prefix}_verify_failures", "Looks at a model's files that found them damaged.", registry=registry
        )
        for result in ("hit", "miss"):
            self._requests.labels(result)

    def asked(self, *, hit: bool) -> None:
        """A job's runner is made: the model was there at once, or it was waited for."""
        self._requests.labels("hit" if hit else "miss").inc()

    def read(self, count: int) -> None:
        """A runner has read this many bytes of a model."""
        self._read.inc(count)

    def cache(self, report: Report) -> None:
        """What a Job found on the volume."""
        if report.cache_bytes is not None:
            self._cache_bytes.set(report.cache_bytes)
        if report.cache_free_bytes is not None:
            self._free_bytes.set(report.cache_free_bytes)

    def damaged(self) -> None:
        """A runner's look at its model, or a check of it, has found it damaged."""
        self._verify_failures.inc()

    def ended(self, task: Task, failure: Failure | None, report: Report) -> None:
        """A model's Job has ended."""
        self.cache(report)
        if task is Task.VERIFY and failure and failure.error_class == "CorruptModelCache":
            self.damaged()
        if task not in (Task.DOWNLOAD, Task.REPAIR):
            return
        self._downloads.labels("failure" if failure else "success", failure.name if failure else "").inc()
        self._downloaded.inc(report.downloaded_bytes or 0)
        self._written.inc(report.written_bytes or 0)
        if failure is None and report.seconds is not None:
            self._seconds.observe(report.seconds)

    def seen(self, name: str, phase: str, users: int) -> None:
        """A WhisperModel as it is now."""
        self._models.set(name, phase, users)

    def gone(self, name: str) -> None:
        """A WhisperModel is no more."""
        self._models.forget(name)

    def page(self) -> bytes:
        """The exposition, as Prometheus reads it."""
        return generate_latest(self.registry)
