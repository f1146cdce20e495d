"""`models download` against a Hub-compatible server that cuts, stalls, corrupts and refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials import hub
from tests.materials.faults import Fault, Request
from tests.materials.hub_repository import Repository
from tests.unit.runner_pod.conftest import hub_cache, tiny_repository
from transcription_runner import cache
from transcription_runner.backoff import Patience
from transcription_runner.download import download_model
from transcription_runner.errors import (
    CorruptModelCache,
    ModelMissing,
    OutputFailed,
    PermissionDenied,
    SourceUnreachable,
    Usage,
)
from transcription_runner.hashes import sha256_of
from transcription_runner.names import parse_model

QUICK = Patience(tries=3, first_wait=0.02, connect_seconds=2, stall_seconds=1)
WEIGHTS = os.urandom(5_000_000)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    main = tiny_repository(tmp_path / "repos" / "main", WEIGHTS)
    second = tiny_repository(tmp_path / "repos" / "v2", WEIGHTS)
    (second / "config.json").write_text('{"model_type": "whisper", "v": 2}')
    sharded = tiny_repository(tmp_path / "repos" / "sharded")
    (sharded / "model.safetensors").rename(sharded / "model-00001-of-00001.safetensors")
    (sharded / "model.safetensors.index.json").write_text("{}")
    unsafe = tiny_repository(tmp_path / "repos" / "unsafe")
    (unsafe / "model.safetensors").unlink()
    (unsafe / "model.fp32-00001-of-00002.safetensors").unlink()
    repositories = [
        Repository("openai/whisper-base", {"main": main, "v2": second}),
        Repository("someone/sharded", {"main": sharded}),
        Repository("someone/unsafe", {"main": unsafe}),
        Repository("someone/private", {"main": main}, token="t0ken"),
        Repository("someone/gated", {"main": main}, token="t0ken", gated=True),
    ]
    with hub.serve(repositories) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def download(root: Path, repo: str = "openai/whisper-base", revision: str = "main", **options):
    return download_model(repo, revision, root, patience=QUICK, **options)


def asked(served: hub.Hub, pattern: str, count: int) -> list[Request]:
    """The requests for files' contents; the server notes one a moment after its last byte has gone."""
    deadline = time.monotonic() + 3
    while len(found := served.behaviour.requests(pattern, "content")) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_a_model_comes_whole_and_huggingface_hub_finds_it(served, tmp_path):
    root = tmp_path / "cache"
    found = download(root)
    names = sorted(path.name for path in found.path.iterdir())
    assert names == ["README.md", "config.json", "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"]
    assert found.bytes == sum(path.stat().st_size for path in found.path.iterdir())

    from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

    assert snapshot_download("openai/whisper-base", cache_dir=root, local_files_only=True) == str(found.path)
    assert try_to_load_from_cache("openai/whisper-base", "config.json", root) == str(found.path / "config.json")
    [scanned] = scan_cache_dir(root).repos
    assert (scanned.repo_id, scanned.size_on_disk) == ("openai/whisper-base", found.bytes)

    manifest = json.loads((root / "models--openai--whisper-base" / "manifest.json").read_bytes())
    record = manifest["snapshots"][found.commit]["files"]["model.safetensors"]
    assert record["sha256"] == record["blob"] == sha256_of(found.path / "model.safetensors")
    for path in root.rglob("*"):
        if not path.is_symlink() and ".staging" not in path.parts:
            assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_huggingface_hub_adds_to_ours_and_ours_to_its(served, tmp_path):
    from huggingface_hub import snapshot_download

    root = tmp_path / "cache"
    path = snapshot_download("openai/whisper-base", cache_dir=root, endpoint=served.url, allow_patterns=["*.json"])
    with pytest.raises(CorruptModelCache):
        cache.find(parse_model("base"), [root])
    found = download(root)
    assert str(found.path) == path
    assert cache.find(parse_model("base"), [root]).path == found.path
    again = snapshot_download("openai/whisper-base", cache_dir=root, endpoint=served.url, allow_patterns=["*.json"])
    assert again == path
    assert cache.verify(found.path.parent.parent, found.commit) == []


def test_what_is_here_is_not_asked_for(served, tmp_path):
    download(tmp_path / "cache")
    served.behaviour.forget()
    assert download(tmp_path / "cache").files == 6
    assert served.behaviour.requests() == []


def test_two_revisions_share_their_blobs(served, tmp_path):
    root = tmp_path / "cache"
    first = download(root)
    served.behaviour.forget()
    second = download(root, revision="v2")
    assert [request.path for request in served.behaviour.requests("*", "content")] == [
        "openai/whisper-base/config.json"
    ]
    assert first.commit != second.commit
    assert cache.find(parse_model("base@v2"), [root]).path == second.path
    assert cache.find(parse_model("base"), [root]).path == first.path
    by_commit = download(root, revision=first.commit)
    assert by_commit.path == first.path


def test_shards_and_their_index(served, tmp_path):
    found = download(tmp_path / "cache", "someone/sharded")
    names = {path.name for path in found.path.iterdir()}
    assert {"model-00001-of-00001.safetensors", "model.safetensors.index.json"} <= names
    assert "pytorch_model.bin" not in names


@pytest.mark.parametrize("kind", ["cut", "stall", "corrupt"])
def test_trouble_that_passes(served, tmp_path, kind):
    served.behaviour.add(Fault(kind, path="*.safetensors", on="content", at=2_000_000, times=1))
    found = download(tmp_path / "cache")
    assert cache.verify(found.path.parent.parent, found.commit) == []
    if kind == "cut":
        [_, again] = asked(served, "*model.safetensors", 2)
        assert again.range == "bytes=2000000-"


def test_a_failing_hub_that_recovers(served, tmp_path):
    served.behaviour.add(Fault("status", on="api", status=503, times=1))
    served.behaviour.add(Fault("status", on="content", status=429, retry_after=0.05, times=1))
    assert download(tmp_path / "cache").files == 6


def test_a_copy_that_is_always_corrupt_never_arrives(served, tmp_path):
    served.behaviour.add(Fault("corrupt", path="*.safetensors", on="content", at=2_000_000))
    with pytest.raises(SourceUnreachable, match="does not agree with its own hash"):
        download(tmp_path / "cache")
    assert cache.find(parse_model("base"), [tmp_path / "cache"]) is None


@pytest.mark.parametrize(
    ("repo", "revision", "error", "said"),
    [
        ("openai/whisper-base", "nope", ModelMissing, "no revision 'nope'"),
        ("openai/whisper-bass", "main", PermissionDenied, "openai/whisper-bass"),
        ("someone/private", "main", PermissionDenied, "someone/private"),
        ("someone/gated", "main", PermissionDenied, "someone/gated"),
        ("someone/unsafe", "main", ModelMissing, "no weights as safetensors"),
    ],
)
def test_refusals_without_a_token(served, tmp_path, repo, revision, error, said):
    with pytest.raises(error, match=said) as caught:
        download(tmp_path / "cache", repo, revision)
    assert caught.value.hint
    if error is PermissionDenied:
        assert "HF_TOKEN" in caught.value.hint


def test_with_a_token(served, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "t0ken")
    assert download(tmp_path / "cache", "someone/private").files == 6
    assert download(tmp_path / "cache", "someone/gated").files == 6
    with pytest.raises(ModelMissing, match=r"127\.0\.0\.1"):
        download(tmp_path / "cache", "openai/whisper-bass")


def test_a_hub_that_is_down(served, tmp_path, monkeypatch):
    for endpoint, said in (
        ("http://127.0.0.1:9", "127.0.0.1:9 refused"),
        ("http://hub.invalid", "name of hub.invalid"),
    ):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(SourceUnreachable, match=said):
            download(tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    served.behaviour.add(Fault("status", on="api", status=500))
    with pytest.raises(SourceUnreachable, match="500"):
        download(tmp_path / "cache")


def test_no_space(served, tmp_path, monkeypatch):
    monkeypatch.setattr("transcription_runner.download.free_bytes", lambda _: 1000)
    with pytest.raises(OutputFailed, match=r"needs 500\d+ bytes more, and 1000 are free"):
        download(tmp_path / "cache")


def test_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Usage, match="HF_HUB_OFFLINE"):
        download(tmp_path / "cache")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_damage_is_found_and_repaired(served, tmp_path, damage):
    root = tmp_path / "cache"
    found = download(root)
    folder = found.path.parent.parent
    weights = (found.path / "model.safetensors").resolve()
    if damage == "flip":
        flip(weights)
    elif damage == "truncate":
        os.truncate(weights, 1000)
    elif damage == "remove":
        weights.unlink()
    else:
        (folder / "manifest.json").write_text("{")
    if damage == "flip":
        cache.find(parse_model("base"), [root])  # a quick look does not see it
        assert cache.verify(folder, found.commit) == ["model.safetensors does not agree with its sha256"]
        download(root, refresh=True)
    else:
        with pytest.raises(CorruptModelCache):
            cache.find(parse_model("base"), [root])
        download(root)
    assert cache.verify(folder, found.commit) == []
    cache.find(parse_model("base"), [root])


def test_a_killed_download_goes_on_where_it_was(served, tmp_path):
    root = tmp_path / "cache"
    served.behaviour.add(Fault("stall", path="*.safetensors", on="content", at=3_000_000, times=1))
    process = subprocess.Popen(
        [sys.executable, "-m", "transcription_runner.cli", "models", "download", "base", "--model_dir", str(root)],
        env={**os.environ, **served.environment},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        parts = list((root / ".staging").rglob("*.part"))
        if parts and sum(part.stat().st_size for part in parts) >= 2_000_000:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert cache.find(parse_model("base"), [root]) is None
    served.behaviour.forget()
    found = download(root)
    [request] = asked(served, "*model.safetensors", 1)
    assert int(request.range.removeprefix("bytes=").rstrip("-")) >= 2_000_000
    assert cache.verify(found.path.parent.parent, found.commit) == []


def test_two_at_once_download_once(served, tmp_path):
    root = tmp_path / "cache"
    served.behaviour.add(Fault("slow", path="*.safetensors", on="content", rate=10_000_000))
    found = []
    threads = [threading.Thread(target=lambda: found.append(download(root))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(asked(served, "*model.safetensors", 1)) == 1


def test_verify_of_a_cache_without_a_manifest(served, tmp_path):
    from huggingface_hub import snapshot_download

    root = tmp_path / "cache"
    path = Path(snapshot_download("openai/whisper-base", cache_dir=root, endpoint=served.url))
    folder = path.parent.parent
    assert cache.verify(folder, path.name) == []
    flip((path / "config.json").resolve())
    assert cache.verify(folder, path.name) == ["config.json does not agree with its hash"]
    assert hub_cache(tmp_path / "other")
