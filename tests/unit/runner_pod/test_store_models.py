"""Models from an object store: a real S3 server (versitygw), read by s3fs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials.servers import S3, s3_server
from tests.unit.runner_pod.conftest import RUNNER, command, tiny_repository
from transcription_runner import cache
from transcription_runner.backoff import Patience
from transcription_runner.download import download_model
from transcription_runner.errors import ModelMissing, PermissionDenied, RunnerError, SourceUnreachable
from transcription_runner.names import parse_model
from transcription_runner.store_origin import StoreOrigin

QUICK = Patience(tries=2, first_wait=0.02, stall_seconds=5)
WEIGHTS = os.urandom(30_000_000)
REPO = "whispermodel/mine"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    repository = tiny_repository(tmp_path_factory.mktemp("store") / "repository", WEIGHTS)
    files = {f"mine/{path.name}": path for path in repository.iterdir()}
    files["mine/deeper/model.safetensors"] = repository / "config.json"
    files |= {f"changing/{name}": repository / name for name in ("config.json", "model.safetensors")}
    with s3_server(bucket="models", files=files) as running:
        yield running


@pytest.fixture
def served(store: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


def bring(root: Path, url: str = "s3://models/mine", **options):
    return download_model(REPO, "main", root, url=url, patience=QUICK, **options)


def test_a_whole_model(served, tmp_path):
    root = tmp_path / "cache"
    found = bring(root)
    names = sorted(path.name for path in found.path.iterdir())
    assert names == ["README.md", "config.json", "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"]
    assert (found.path / "model.safetensors").read_bytes().endswith(WEIGHTS)
    assert cache.find(parse_model(REPO), [root]).path == found.path
    assert cache.verify(found.path.parent.parent, found.commit) == []
    manifest = json.loads((root / "models--whispermodel--mine" / "manifest.json").read_bytes())
    record = manifest["snapshots"][found.commit]["files"]["model.safetensors"]
    assert record["blob"] == record["sha256"]
    assert record["etag"]

    from huggingface_hub import scan_cache_dir

    [scanned] = scan_cache_dir(root).repos
    assert (scanned.repo_id, scanned.size_on_disk) == (REPO, found.bytes)
    # The same files have the same commit wherever they are brought to.
    assert bring(tmp_path / "other").commit == found.commit
    assert found.transfer.bytesDownloaded == found.bytes


def test_what_is_here_is_kept_and_what_is_damaged_alone_comes_again(served, tmp_path):
    root = tmp_path / "cache"
    first = bring(root)
    again = bring(root, refresh=True)
    assert (again.transfer.bytesDownloaded, again.commit) == (0, first.commit)
    weights = (first.path / "model.safetensors").resolve()
    os.truncate(weights, 1000)
    repaired = bring(root)
    assert repaired.transfer.bytesDownloaded == weights.stat().st_size
    assert cache.verify(first.path.parent.parent, first.commit) == []


def test_the_hash_of_the_store_is_compared(served, tmp_path, monkeypatch):
    listed = StoreOrigin("s3://models/mine", QUICK).list()
    small = next(file for file in listed.files if file.name == "config.json")
    assert small.md5  # a file put in one part has its MD5 as ETag
    real = StoreOrigin._hashes
    monkeypatch.setattr(
        StoreOrigin,
        "_hashes",
        lambda self, entry: ("0" * 32, None) if entry["name"].endswith("vocab.json") else real(self, entry),
    )
    with pytest.raises(SourceUnreachable, match=r"vocab\.json") as caught:
        bring(tmp_path / "cache")
    assert caught.value.reason == "ChecksumMismatch"


def failure(action) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        action()
    assert caught.value.hint
    return caught.value


def test_what_is_not_there(served, tmp_path):
    error = failure(lambda: bring(tmp_path / "cache", "s3://no-such-bucket/mine"))
    assert (type(error), error.reason) == (ModelMissing, "BucketNotFound")
    error = failure(lambda: bring(tmp_path / "cache", "s3://models/nothing-here"))
    assert (type(error), error.reason) == (ModelMissing, "ObjectsNotFound")


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys(served, tmp_path, monkeypatch, wrong):
    monkeypatch.setenv(wrong, "wrong")
    error = failure(lambda: bring(tmp_path / "cache"))
    assert (type(error), error.reason) == (PermissionDenied, "Unauthorized")


def test_nobody_there(served, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    error = failure(lambda: bring(tmp_path / "cache"))
    assert (type(error), error.reason) == (SourceUnreachable, "ConnectionFailed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid")
    assert failure(lambda: bring(tmp_path / "cache")).reason == "DnsFailure"


def test_an_object_that_changes_meanwhile(served, tmp_path, monkeypatch):
    """Replaced between two ranges; the stand-in is the moment alone, which no client can wait for."""
    replaced = tmp_path / "other"
    replaced.write_bytes(WEIGHTS[::-1])
    real = StoreOrigin._block
    once = threading.Event()

    def block(self, path, start, *rest):
        if path.endswith("model.safetensors") and start and not once.is_set():
            once.set()
            served.put("changing/model.safetensors", replaced)
        return real(self, path, start, *rest)

    monkeypatch.setattr(StoreOrigin, "_block", block)
    error = failure(lambda: bring(tmp_path / "cache", "s3://models/changing"))
    assert (type(error), error.reason) == (SourceUnreachable, "SourceChanged")
    assert cache.find(parse_model(REPO), [tmp_path / "cache"]) is None
    found = bring(tmp_path / "cache", "s3://models/changing")  # the next attempt takes the new one, whole
    assert (found.path / "model.safetensors").read_bytes() == replaced.read_bytes()


def test_killed_and_resumed(served, tmp_path):
    root = tmp_path / "cache"
    words = ["models", "download", "s3://models/mine", "--name", "mine", "--model_dir", str(root), "--json"]
    process = subprocess.Popen([*RUNNER, *words], env=os.environ.copy())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _part_of(root, 8_000_000):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert cache.find(parse_model(REPO), [root]) is None
    log = tmp_path / "termination-log"
    done = command(*words, TRANSCRIPTION_TERMINATION_LOG=str(log))
    assert done.code == 0, done.err
    receipt = json.loads(log.read_bytes())
    assert receipt["model"] == json.loads(done.out)["model"]
    assert receipt["model"]["repo"] == REPO
    assert receipt["transfer"]["bytesResumed"] >= 8_000_000
    assert receipt["transfer"]["bytesDownloaded"] + receipt["transfer"]["bytesResumed"] == receipt["model"]["bytes"]
    assert receipt["cache"]["bytes"] >= receipt["model"]["bytes"]
    assert command("models", "verify", REPO, "--model_dir", root).code == 0


def _part_of(root: Path, size: int) -> bool:
    return any(part.stat().st_size >= size for part in (root / ".staging").rglob("*.part"))


def test_a_url_needs_a_name(served, tmp_path):
    done = command("models", "download", "s3://models/mine", "--model_dir", tmp_path)
    assert done.code == 64
    assert "--name" in done.err
    assert command("models", "download", "s3://models/mine", "--name", "a/b", "--model_dir", tmp_path).code == 64
    done = command("models", "download", REPO, "--model_dir", tmp_path)
    assert done.code == 66
    assert f"URL --name {REPO}" in done.err
