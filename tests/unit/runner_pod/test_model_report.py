"""A download's progress on its WhisperModel: to a stand-in for the API server, which keeps no objects.

The real one is asked in the end-to-end tests.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.materials import hub
from tests.materials.faults import Fault
from tests.materials.hub_repository import Repository
from tests.materials.web import running
from tests.unit.runner_pod.conftest import tiny_repository
from transcription_runner.apiserver import ApiServer
from transcription_runner.download import download_model
from transcription_runner.model_report import ModelReporter

PATH = "/apis/transcription.dev/v1alpha1/whispermodels/large/status"
SIZE = 2_000_000


@dataclass
class Server:
    """What was applied, and what to answer."""

    api: ApiServer
    status: int = 200
    seconds: float = 0.0
    applied: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Server]:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("t0ken")

    async def patch(request: web.Request) -> web.Response:
        assert request.query == {"fieldManager": "transcription-download", "force": "true"}
        assert request.content_type == "application/apply-patch+yaml"
        assert request.headers["Authorization"] == "Bearer t0ken"
        server.applied.append(json.loads(await request.read()))
        server.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(server.seconds)
        return web.json_response({}, status=server.status)

    app = web.Application()
    app.router.add_patch(PATH, patch)
    with running(app, "127.0.0.1", 0) as port:
        server = Server(ApiServer(url=f"http://127.0.0.1:{port}", service_account=account))
        yield server


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    main = tiny_repository(tmp_path / "repos" / "main", os.urandom(SIZE))
    with hub.serve([Repository("openai/whisper-base", {"main": main})]) as serving:
        for name, value in serving.environment.items():
            monkeypatch.setenv(name, value)
        yield serving


def test_progress_of_a_download(api, served, tmp_path):
    served.behaviour.add(Fault("slow", path="*.safetensors", rate=1_000_000))
    reporter = ModelReporter("large", api.api, interval=0.3)
    found = download_model("openai/whisper-base", "main", tmp_path / "cache", reporter=reporter)
    reporter.stop()
    for body in api.applied:
        assert (body["apiVersion"], body["kind"]) == ("transcription.dev/v1alpha1", "WhisperModel")
        assert body["metadata"] == {"name": "large"}
        assert set(body["status"]) == {"progress"}
    values = [body["status"]["progress"] for body in api.applied]
    amounts = [value["downloadedBytes"] for value in values]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) > 3
    assert any(value.get("etaSeconds") is not None and value["bytesPerSecond"] > 0 for value in values)
    assert any(value.get("file") == "model.safetensors" for value in values)
    last = values[-1]
    assert (last["percent"], last["downloadedBytes"], last["totalBytes"]) == (100, found.bytes, found.bytes)
    assert last["updatedAt"].endswith("Z")
    pauses = [after - before for before, after in zip(api.times, api.times[1:], strict=False)]
    assert min(pauses[:-1]) > 0.25  # the last one goes out at the end, whenever that is


@pytest.mark.parametrize("trouble", ["500", "403", "404", "slow", "away", "no token"])
def test_no_report_fails_a_download(api, served, tmp_path, trouble):
    server = api.api
    if trouble.isdigit():
        api.status = int(trouble)
    elif trouble == "slow":
        api.seconds = 3
    elif trouble == "away":
        server = ApiServer(url="https://127.0.0.1:9", service_account=api.api.service_account)
    else:
        server = ApiServer(url=api.api.url, service_account=tmp_path / "none")
    reporter = ModelReporter("large", server, interval=0.05)
    assert download_model("openai/whisper-base", "main", tmp_path / "cache", reporter=reporter).files == 6
    reporter.stop()
    if trouble == "404":
        assert len(api.applied) == 1  # it is gone, and left alone


def test_environment():
    assert ModelReporter.from_environment({}) is None
    assert ModelReporter.from_environment({"TRANSCRIPTION_MODEL": "large"}) is None
    found = ModelReporter.from_environment({"TRANSCRIPTION_MODEL": "large", "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert found._writer._path == f"https://10.0.0.1:443{PATH}"
