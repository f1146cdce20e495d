"""The operator's metrics, scraped by a real Prometheus, and asked for as docs/model-cache.md names them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.operator.test_models import a_report
from tests.integration.operator.world import StandIn, World, a_result_receipt, until
from transcription_operator import names

ROOT = Path(__file__).resolve().parents[3]
READ = 123_456


class Prometheus:
    """A running server that scrapes one address every second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, query: str) -> float | None:
        """The value of a query that gives one; None while there is nothing."""
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(result[0]["value"][1]) if result else None

    def until(self, query: str, value: float) -> None:
        """Waits until a query has this value."""
        until(lambda: self.ask(query) == value, f"{query} is {value}: {self.ask(query)}", patience=60)


@pytest.fixture
def prometheus(world: World, tmp_path: Path) -> Iterator[Prometheus]:
    config = tmp_path / "prometheus.yml"
    target = {"job_name": "operator", "static_configs": [{"targets": [f"127.0.0.1:{world.operator.port}"]}]}
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [target]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with subprocess.Popen(words) as process:
        try:
            found = Prometheus(port)
            found.until("up", 1)
            yield found
        finally:
            process.kill()


def documented() -> set[str]:
    """The names of metrics in docs/contracts.md."""
    page = (ROOT / "docs" / "contracts.md").read_text()
    section = page[page.index("\n## Metrics\n") : page.index("\n## The operator's settings")]
    return set(re.findall(r"`(transcription_[a-z_]+)", section))


def test_all_of_them(world: World, stand_in: StandIn, prometheus: Prometheus, namespace: str, repo: str):
    name = repo.partition("/")[2]

    def change(metric: str) -> float:
        return prometheus.ask(metric) or 0.0

    counted = {
        'transcription_model_downloads_total{result="success"}': 1,
        "transcription_model_download_seconds_count": 1,
        "transcription_model_download_bytes_total": 280_000,
        "transcription_model_written_bytes_total": 280_000,
        "transcription_model_read_bytes_total": READ,
        'transcription_model_requests_total{result="miss"}': 1,
        'transcription_model_requests_total{result="hit"}': 1,
        'transcription_model_downloads_total{result="failure",reason="GatedRepository"}': 1,
        "transcription_model_verify_failures_total": 1,
    }
    before = {metric: change(metric) for metric in counted}

    world.apply(namespace, "waits", cache="Shared", model=repo)
    first = world.download(repo)
    stand_in.ends(world.pod_of(first), 0, a_report())
    pod = world.pod_of(world.job(namespace, "waits"))
    model = world.job(namespace, "waits")["metadata"]["labels"][names.LABEL_MODEL]
    prometheus.until(f'transcription_model_users{{model="{model}"}}', 1)
    world.report(namespace, name="waits")
    stand_in.succeeds(pod, json.dumps({**json.loads(a_result_receipt()), "cache": {"bytesRead": READ}}))
    world.until_condition(namespace, "Complete=True", name="waits")
    world.apply(namespace, "finds", cache="Shared", model=repo)
    world.job(namespace, "finds")

    error = {"class": "PermissionDenied", "reason": "GatedRepository", "code": 77, "message": "gated"}
    world.apply_model(f"{name}-gated", {"hub": {"repo": f"{repo}-gated"}})
    stand_in.ends(world.pod_of(world.download(f"{repo}-gated")), 77, json.dumps({"error": error}))
    world.until_model(f"{name}-gated", "Ready=False/GatedRepository")
    world.annotate_model(model, {names.ANNOTATION_VERIFY: "now"})
    check = world.another_download(repo, first)
    stand_in.fails(world.pod_of(check), "CorruptModelCache", 80, "a bit is flipped")
    world.until_model(model, "Verified=False/CorruptModelCache")

    for metric, more in counted.items():
        prometheus.until(metric, before[metric] + more)
    prometheus.until("transcription_model_cache_bytes", 290_000)
    prometheus.until("transcription_model_cache_free_bytes", 7_000_000)
    assert (prometheus.ask('transcription_models{phase="Corrupt"}') or 0) >= 1
    world.delete_model(f"{name}-gated")


def test_every_documented_name_is_served(prometheus: Prometheus):
    for metric in documented():
        exact = metric if metric != "transcription_model_download_seconds" else f"{metric}_count"
        until(lambda exact=exact: prometheus.ask(f"count({exact})") is not None, f"{exact} is there", patience=30)


def test_prometheus_finds_no_fault_in_the_page(world: World):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=world.operator.read("/metrics"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
