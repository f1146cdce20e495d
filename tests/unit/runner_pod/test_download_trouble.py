"""Every trouble that a download may meet, by the reason that it is shown under (docs/model-cache.md)."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from tests.materials import hub
from tests.materials.faults import Fault
from tests.materials.hub_repository import Repository
from tests.materials.web import running
from tests.unit.runner_pod.conftest import RUNNER, tiny_repository
from transcription_runner import errors
from transcription_runner.backoff import Patience
from transcription_runner.download import download_model
from transcription_runner.errors import Reason, RunnerError

QUICK = Patience(tries=2, first_wait=0.02, connect_seconds=2, stall_seconds=0.5, longest_wait=2)
BASE = "openai/whisper-base"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    main = tiny_repository(tmp_path / "repos" / "main", os.urandom(3_000_000))
    unsafe = tiny_repository(tmp_path / "repos" / "unsafe")
    (unsafe / "model.safetensors").unlink()
    (unsafe / "model.fp32-00001-of-00002.safetensors").unlink()
    bert = tiny_repository(tmp_path / "repos" / "bert", os.urandom(3_000_000))
    (bert / "config.json").write_text('{"model_type": "bert"}')
    bare = tiny_repository(tmp_path / "repos" / "bare")
    (bare / "config.json").unlink()
    repositories = [
        Repository(BASE, {"main": main}),
        Repository("someone/unsafe", {"main": unsafe}),
        Repository("someone/bert", {"main": bert}),
        Repository("someone/bare", {"main": bare}),
        Repository("someone/gated", {"main": main}, token="t0ken", gated=True),
    ]
    with hub.serve(repositories) as running_hub:
        for name, value in running_hub.environment.items():
            monkeypatch.setenv(name, value)
        yield running_hub


def failure(root: Path, repo: str = BASE, revision: str = "main", patience: Patience = QUICK) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        download_model(repo, revision, root, patience=patience)
    error = caught.value
    assert error.hint, error.message
    assert not list(root.glob("models--*/snapshots"))  # nothing that could be taken for a model
    return error


def test_not_there(served, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "any")
    error = failure(tmp_path / "cache", "openai/whisper-bass")
    assert (type(error), error.reason) == (errors.ModelMissing, Reason.REPOSITORY_NOT_FOUND)
    error = failure(tmp_path / "cache", revision="v9")
    assert (type(error), error.reason) == (errors.ModelMissing, Reason.REVISION_NOT_FOUND)
    assert "'v9'" in error.message


def test_not_allowed(served, tmp_path, monkeypatch):
    error = failure(tmp_path / "cache", "openai/whisper-bass")
    assert (type(error), error.reason) == (errors.PermissionDenied, Reason.UNAUTHORIZED)
    error = failure(tmp_path / "cache", "someone/gated")
    assert (type(error), error.reason) == (errors.PermissionDenied, Reason.GATED_REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", "another")
    error = failure(tmp_path / "cache", "someone/gated")
    assert (type(error), error.reason) == (errors.PermissionDenied, Reason.GATED_REPOSITORY)
    assert "conditions" in error.hint


def test_too_much_is_asked(served, tmp_path):
    served.behaviour.add(Fault("status", on="api", status=429, retry_after=3600))
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.RATE_LIMITED)
    assert "3600 s (Retry-After)" in error.message
    assert len(served.behaviour.requests(BASE, "api")) == 1  # longer than our patience: not asked again
    served.behaviour.clear()
    served.behaviour.add(Fault("status", on="content", status=429, retry_after=1800))
    assert "1800 s (Retry-After)" in failure(tmp_path / "cache").message
    served.behaviour.clear()
    served.behaviour.add(Fault("status", on="api", status=429, retry_after=0.1, times=1))
    assert download_model(BASE, "main", tmp_path / "cache", patience=QUICK).files == 6


def test_a_server_that_fails(served, tmp_path):
    served.behaviour.add(Fault("status", on="api", status=503))
    assert failure(tmp_path / "cache").reason == Reason.HUB_SERVER_ERROR
    assert len(served.behaviour.requests(BASE, "api")) == QUICK.tries
    served.behaviour.clear()
    served.behaviour.add(Fault("status", on="content", status=502))
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.HUB_SERVER_ERROR)


def test_a_stall_names_the_host_that_stalls(served, tmp_path):
    served.behaviour.add(Fault("stall", path="*.safetensors", at=0))
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.STALLED)
    # The server of large files is another host than the Hub's.
    assert f"127.0.0.1:{served.content_port} sent nothing for 0.5 s" in error.message
    assert "--stall_timeout" in error.hint


def test_cut_connections(served, tmp_path):
    served.behaviour.add(Fault("cut", path="*.safetensors", at=0))
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.CONNECTION_FAILED)


def test_a_wrong_hash(served, tmp_path):
    served.behaviour.add(Fault("corrupt", path="*.safetensors", at=1_000_000))
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.CHECKSUM_MISMATCH)
    assert "model.safetensors" in error.message


def test_another_kind_of_model_is_not_fetched(served, tmp_path):
    for repo, said in (("someone/bert", "'bert'"), ("someone/bare", "no config.json")):
        error = failure(tmp_path / "cache", repo)
        assert (type(error), error.reason) == (errors.ModelMissing, Reason.NOT_A_WHISPER_MODEL)
        assert said in error.message
    assert served.behaviour.sent("*.safetensors") == 0
    error = failure(tmp_path / "cache", "someone/unsafe")
    assert (type(error), error.reason) == (errors.ModelMissing, Reason.UNSAFE_WEIGHTS)
    assert "pytorch_model.bin" in error.message


def test_an_adapter_comes_without_a_model_of_its_own(tmp_path, monkeypatch):
    folder = tiny_repository(tmp_path / "adapter")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with hub.serve([Repository("someone/adapter", {"main": folder})]) as serving:
        monkeypatch.setenv("HF_ENDPOINT", serving.url)
        found = download_model("someone/adapter", "main", tmp_path / "cache", patience=QUICK)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in found.path.iterdir()}


# the network


def endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)


def test_no_such_name_and_nobody_there(served, tmp_path, monkeypatch):
    endpoint(monkeypatch, "http://hub.invalid")
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.DNS_FAILURE)
    assert "hub.invalid" in error.message
    endpoint(monkeypatch, "http://127.0.0.1:9")
    error = failure(tmp_path / "cache")
    assert (type(error), error.reason) == (errors.SourceUnreachable, Reason.CONNECTION_FAILED)


@contextlib.contextmanager
def over_tls(authority: trustme.CA, **how) -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", **how).configure_cert(context)
    with running(web.Application(), "localhost", 0, context) as port:
        yield f"https://localhost:{port}"


def test_an_unknown_authority_and_an_expired_certificate(tmp_path, monkeypatch):
    """In processes of their own: huggingface_hub's client keeps its authorities."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    words = [*RUNNER, "models", "download", "base", "--model_dir", str(tmp_path / "cache")]
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for how, trusted, said in (
        ({}, {}, "unable to get local issuer certificate"),
        ({"not_after": yesterday}, {"TRANSCRIPTION_CA_BUNDLE": str(bundle)}, "certificate has expired"),
    ):
        with over_tls(authority, **how) as url:
            log = tmp_path / "log"
            environment = {**os.environ, "HF_ENDPOINT": url, "TRANSCRIPTION_TERMINATION_LOG": str(log), **trusted}
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 69, done.stderr
        assert '"reason":"TlsFailure"' in log.read_text()
        assert said in done.stderr
        assert "localhost" in done.stderr


@pytest.mark.parametrize("answer", [407, 502, None])
def test_a_proxy_that_refuses(tmp_path, answer):
    """One that answers a CONNECT with a refusal, or that is not there."""

    async def refuse(request: web.BaseRequest) -> web.Response:
        return web.Response(status=answer)

    with contextlib.ExitStack() as stack:
        if answer is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        else:
            app = web.Application()
            app.router.add_route("*", "/{anything:.*}", refuse)
            port = stack.enter_context(running(app, "127.0.0.1", 0))
        log = tmp_path / "log"
        for target in ("https://hub.invalid", "http://hub.invalid"):
            if answer == 502 and target.startswith("http:"):
                continue  # cannot be told from the Hub's own answer
            environment = {
                **os.environ,
                "HF_ENDPOINT": target,
                "TRANSCRIPTION_TERMINATION_LOG": str(log),
                "HTTP_PROXY": f"http://127.0.0.1:{port}",
                "HTTPS_PROXY": f"http://127.0.0.1:{port}",
            }
            words = [*RUNNER, "models", "download", "base", "--model_dir", str(tmp_path / "cache")]
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            assert done.returncode == 69, done.stderr
            assert '"reason":"ProxyFailure"' in log.read_text(), log.read_text()
            assert "HTTPS_PROXY" in done.stderr


# the volume


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_volume_is_seen_before_the_weights_come(served, tmp_path):
    with mounted(tmp_path / "volume", 1 << 20) as volume:
        error = failure(volume)
        assert (type(error), error.reason) == (errors.OutputFailed, Reason.VOLUME_FULL)
        assert "it needs 3000" in error.message
        assert "are free in" in error.message
    assert served.behaviour.requests("*", "content") == []


def test_a_volume_that_fills_up_meanwhile(served, tmp_path, monkeypatch):
    monkeypatch.setattr("transcription_runner.download.free_bytes", lambda _: 10**12)  # somebody else takes it
    with mounted(tmp_path / "volume", 1 << 20) as volume:
        error = failure(volume)
        assert (type(error), error.reason) == (errors.OutputFailed, Reason.VOLUME_FULL)
        assert "bytes are free" in error.message


def test_a_volume_mounted_read_only(served, tmp_path):
    with mounted(tmp_path / "volume", 1 << 20) as volume:
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        error = failure(volume)
        assert (type(error), error.reason) == (errors.OutputFailed, Reason.VOLUME_READ_ONLY)


def test_a_volume_of_another_owner(served, tmp_path):
    """These tests run as root, whom nothing is refused: the command runs as the image's user."""
    # pytest's folders are root's alone.
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    log = tmp_path / "log"
    log.touch()
    log.chmod(0o666)
    words = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", *RUNNER]
    words += ["models", "download", "base", "--model_dir", str(volume)]
    environment = {**os.environ, "TRANSCRIPTION_TERMINATION_LOG": str(log), "HF_HOME": "/nonexistent"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 77, done.stderr
    assert '"reason":"WrongOwner"' in log.read_text()
    assert "belongs to uid 0, gid 0, mode 755, and this process runs as uid 10001, gid 10001" in done.stderr
    volume.chmod(0o755)
    os.chown(volume, 10001, 10001)
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def throttled(folder: Path, rate: str) -> Iterator[Path]:
    """A folder behind a file system that takes so many bytes a second (bindfs, over FUSE)."""
    below = folder.with_name(f"{folder.name}-below")
    for each in (folder, below):
        each.mkdir()
    subprocess.run(["bindfs", f"--write-rate={rate}", below, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Listening:
    """Whoever a download's progress is reported to."""

    def __init__(self):
        self.heard = []

    def progress(self, value):
        self.heard.append(value)

    def stop(self):
        pass


def test_a_slow_volume_is_told_while_the_model_comes(served, tmp_path, caplog):
    reporter = Listening()
    with throttled(tmp_path / "volume", "600k") as volume, caplog.at_level("WARNING", "transcription_runner"):
        assert download_model(BASE, "main", volume, patience=QUICK, reporter=reporter).files == 6
    said = "; ".join(value["message"] for value in reporter.heard if value.get("reason") == Reason.VOLUME_SLOW)
    assert re.search(r"of 3.0 MB, .* left; the volume is slow: it takes \d+\.\d kB/s", said), said
    assert "reason" not in reporter.heard[0], "nothing is said before it has been seen"
    assert caplog.text.count("the volume is slow") == 1, "and the log has it once"


def test_a_slow_hub_is_no_slow_volume(served, tmp_path, caplog):
    served.behaviour.add(Fault("slow", path="*.safetensors", rate=800_000))
    reporter = Listening()
    with caplog.at_level("WARNING", "transcription_runner"):
        download_model(BASE, "main", tmp_path / "cache", patience=QUICK, reporter=reporter)
    assert not [value for value in reporter.heard if "reason" in value]
    assert "the volume is slow" not in caplog.text


def test_every_reason_is_produced_by_a_test():
    names = {reason.name for reason in Reason}
    text = Path(__file__).read_text() + (Path(__file__).with_name("test_store_models.py")).read_text()
    shown = {
        reason.name
        for reason in Reason
        if f"Reason.{reason.name}" in text or f'"{reason}"' in text or f':"{reason}"' in text
    }
    assert shown == names
