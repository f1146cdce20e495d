"""Reports to a stand-in for the API server: it speaks server-side apply's URL, but keeps no objects.

The real one is asked in the end-to-end tests.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from tests.materials.web import running
from tests.unit.runner_pod.conftest import RESULT
from transcription_runner.apiserver import ApiServer
from transcription_runner.receipt import digest
from transcription_runner.report import Reporter, inline

PATH = "/apis/transcription.dev/v1alpha1/namespaces/team/transcriptionjobs/talk/status"


@dataclass
class Server:
    """What was applied, and what to answer next."""

    url: str = ""
    account: Path = Path()
    applied: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    always: int = 200
    seconds: float = 0.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Server]:
    server = Server()

    async def patch(request: web.Request) -> web.Response:
        assert request.query == {"fieldManager": "transcription-runner", "force": "true"}
        assert request.content_type == "application/apply-patch+yaml"
        body = json.loads(await request.read())
        server.tokens.append(request.headers["Authorization"])
        if server.seconds:
            import asyncio

            await asyncio.sleep(server.seconds)
        status, headers = server.answers.pop(0) if server.answers else (server.always, {})
        if status == 200:
            server.applied.append(body)
        return web.json_response({"message": f"status {status}"}, status=status, headers=headers)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_patch(PATH, patch)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.account = tmp_path / "account"
    server.account.mkdir()
    authority.cert_pem.write_to_path(server.account / "ca.crt")
    (server.account / "token").write_text("first\n")
    with running(app, "127.0.0.1", 0, context) as port:
        server.url = f"https://127.0.0.1:{port}"
        yield server


def reporter(api: Server, **options: Any) -> Reporter:
    return Reporter(
        "team",
        "talk",
        server=ApiServer(url=api.url, service_account=api.account),
        **{"patience": 3, "interval": 0.1} | options,
    )


def test_a_result_is_applied_with_its_progress(api):
    delivery = reporter(api).result(RESULT, duration=1.5, speed=2.0)
    [body] = api.applied
    assert (body["apiVersion"], body["kind"]) == ("transcription.dev/v1alpha1", "TranscriptionJob")
    assert body["metadata"] == {"name": "talk", "namespace": "team"}
    assert set(body["status"]) == {"progress", "result"}
    assert body["status"]["result"] == RESULT
    assert body["status"]["progress"]["percent"] == 100
    assert delivery.delivered
    assert delivery.digest == digest(RESULT)


def test_progress_is_sent_now_and_then(api):
    reports = reporter(api)
    for second in range(50):
        reports.progress(processed=second, total=100, speed=3.0, message=f"second {second}")
        time.sleep(0.01)
    reports.stop()
    assert 2 <= len(api.applied) <= 9
    last = api.applied[-1]["status"]["progress"]
    assert (last["percent"], last["processedSeconds"], last["message"]) == (49, 49, "second 49")
    assert last["updatedAt"].endswith("Z")


def test_a_slow_server_does_not_hold_the_transcription_up(api):
    api.seconds = 1.0
    reports = reporter(api)
    started = time.monotonic()
    for second in range(100):
        reports.progress(processed=second, total=100, speed=None, message="")
    assert time.monotonic() - started < 0.5
    assert reports.result(RESULT, duration=1, speed=None).delivered
    assert "result" in api.applied[-1]["status"]


def test_failures_are_tried_again_with_a_fresh_token(api):
    api.answers = [(500, {}), (429, {"Retry-After": "0.1"}), (401, {})]
    reports = reporter(api)
    (api.account / "token").write_text("second")
    assert reports.result(RESULT, duration=1, speed=1).delivered
    assert api.tokens == ["Bearer second"] * 4


@pytest.mark.parametrize("status", [404, 422])
def test_a_refusal_ends_the_reports(api, status):
    api.always = status
    reports = reporter(api, patience=60)
    started = time.monotonic()
    delivery = reports.result(RESULT, duration=1, speed=1)
    assert not delivery.delivered
    assert delivery.digest == digest(RESULT)
    assert time.monotonic() - started < 5
    assert len(api.tokens) == 1


def test_a_pod_that_is_ahead_of_its_permission_is_heard_later(api):
    api.answers = [(403, {})] * 3
    reports = reporter(api)
    for second in range(3):
        reports.progress(processed=second, total=3, speed=1, message="")
        time.sleep(0.15)
    assert reports.result(RESULT, duration=1, speed=1).delivered


def test_a_pod_that_may_not_report_gives_up(api, monkeypatch):
    monkeypatch.setattr("transcription_runner.report._PATIENCE_WITH_403", 1.0)
    api.always = 403
    started = time.monotonic()
    assert not reporter(api, patience=60).result(RESULT, duration=1, speed=1).delivered
    assert time.monotonic() - started < 10


def test_a_job_that_is_gone_is_left_alone(api):
    api.always = 404
    reports = reporter(api)
    for second in range(10):
        reports.progress(processed=second, total=10, speed=1, message="")
        time.sleep(0.05)
    assert not reports.result(RESULT, duration=1, speed=1).delivered
    assert len(api.tokens) == 1


def test_patience_ends(api):
    api.always = 503
    started = time.monotonic()
    assert not reporter(api, patience=1).result(RESULT, duration=1, speed=1).delivered
    assert time.monotonic() - started < 4


def test_nobody_there(api, tmp_path):
    reports = Reporter(
        "team", "talk", server=ApiServer(url="https://127.0.0.1:9", service_account=api.account), patience=0.5
    )
    assert not reports.result(RESULT, duration=1, speed=1).delivered
    reports = Reporter("team", "talk", server=ApiServer(url=api.url, service_account=tmp_path / "none"), patience=0.5)
    assert not reports.result(RESULT, duration=1, speed=1).delivered


def test_a_large_result_goes_by_its_beginning(api):
    large = {**RESULT, "text": "wörd " * 5000}
    delivery = reporter(api, inline_limit=10_000).result(large, duration=1, speed=1)
    value = api.applied[-1]["status"]["result"]
    assert set(value) == {"text", "language", "truncated"}
    assert large["text"].startswith(value["text"])
    assert len(value["text"]) == 4000
    assert delivery.truncated
    assert delivery.digest == digest(value)


def test_a_server_that_finds_it_too_large_gets_the_beginning(api):
    api.answers = [(413, {})]
    delivery = reporter(api).result(RESULT, duration=1, speed=1)
    assert delivery.delivered
    assert delivery.truncated
    assert api.applied[-1]["status"]["result"] == {"text": RESULT["text"], "language": "en", "truncated": True}


def test_the_limit_counts_bytes_of_compact_json():
    size = len(json.dumps(RESULT, separators=(",", ":")).encode())
    assert inline(RESULT, size) == (RESULT, False)
    assert inline(RESULT, size - 1)[1]


def test_what_json_has_not_is_left_out():
    value, _ = inline({"text": "", "segments": [{"avg_logprob": float("nan"), "start": 0.0}]}, 10_000)
    assert value == {"text": "", "segments": [{"start": 0.0}]}


def test_environment(api, monkeypatch):
    assert Reporter.from_environment({}) is None
    assert Reporter.from_environment({"TRANSCRIPTION_JOB": "a/b"}) is None
    found = Reporter.from_environment(
        {
            "TRANSCRIPTION_JOB": "team/talk",
            "KUBERNETES_SERVICE_HOST": "fd00::1",
            "KUBERNETES_SERVICE_PORT": "6443",
            "TRANSCRIPTION_REPORT_PATIENCE": "many",
        }
    )
    assert found._writer.shown == "transcriptionjob team/talk"
    assert found._writer._path == f"https://[fd00::1]:6443{PATH}"
    assert found._patience == 120


# Without a shared volume


def ephemeral(run, api, folder, *words, **environ):
    """The pod of a job whose transcript folder ends with it, reporting to the server."""
    (folder / "talk.wav").write_bytes(b"RIFF")
    return run(
        folder / "talk.wav", "-o", folder / "out", "-f", "json", *words,
        TRANSCRIPTION_JOB="team/talk", TRANSCRIPTION_EPHEMERAL="1", TRANSCRIPTION_REPORT_PATIENCE="0.5",
        KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=api.url.rpartition(":")[2],
        TRANSCRIPTION_SERVICE_ACCOUNT=str(api.account), **environ,
    )  # fmt: skip


def test_a_result_in_the_status_needs_no_volume(run, listener, api, tmp_path):
    done = ephemeral(run, api, tmp_path)
    assert done.code == 0
    assert done.receipt["delivered"] is True
    assert done.receipt["result"]["path"] is None, "nothing is left of that folder"
    assert api.applied[-1]["status"]["result"] == RESULT


def test_a_large_result_without_a_place_fails_and_says_what_to_do(run, listener, api, tmp_path):
    done = ephemeral(run, api, tmp_path, TRANSCRIPTION_INLINE_LIMIT="100")
    assert done.code == 64, "the same again would come of another try"
    assert done.receipt["error"]["class"] == "OutputFailed"
    assert "spec.output.url" in done.receipt["error"]["hint"]
    assert "no shared volume" in done.receipt["error"]["message"]


def test_a_large_result_with_an_output_of_its_own_is_there(run, listener, api, tmp_path):
    done = ephemeral(run, api, tmp_path, "--output", tmp_path / "mine", TRANSCRIPTION_INLINE_LIMIT="100")
    assert done.code == 0
    assert done.receipt["result"]["url"] == str(tmp_path / "mine" / "talk.json")
    assert json.loads((tmp_path / "mine" / "talk.json").read_text()) == RESULT


def test_a_result_that_nobody_took_is_tried_again(run, listener, api, tmp_path):
    api.always = 503
    done = ephemeral(run, api, tmp_path)
    assert done.code == 75
    assert done.receipt["error"]["class"] == "Temporary"
