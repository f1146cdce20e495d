"""Caches as huggingface_hub writes them, and what may be wrong with one. (Ours: test_download.py.)"""

from __future__ import annotations

import json

import pytest

from tests.unit.runner_pod.conftest import hub_cache
from transcription_runner import cache, inventory
from transcription_runner.errors import CorruptModelCache, ModelMissing
from transcription_runner.hashes import content_hash, sha256_of
from transcription_runner.names import parse_model


def find(root, name="base"):
    return cache.find(parse_model(name), [root])


def test_a_cache_that_huggingface_hub_wrote(tmp_path):
    folder = hub_cache(tmp_path / "models")
    found = find(tmp_path / "models")
    assert found.path == folder / "snapshots" / ("a" * 40)
    assert (found.repo, found.revision, found.commit) == ("openai/whisper-base", "main", "a" * 40)
    assert find(tmp_path / "models", f"base@{'a' * 40}").path == found.path
    assert find(tmp_path / "models", "tiny") is None
    assert find(tmp_path / "models", "base@v2") is None
    [entry] = inventory.entries(tmp_path / "models")
    assert (entry["repo"], entry["revision"], entry["state"]) == ("openai/whisper-base", "main", "ready")


def test_a_folder_of_a_model(tmp_path):
    folder = hub_cache(tmp_path / "models")
    snapshot = folder / "snapshots" / ("a" * 40)
    assert find(tmp_path, str(snapshot)).path == snapshot
    with pytest.raises(ModelMissing, match="no model at"):
        find(tmp_path, str(tmp_path / "gone"))
    with pytest.raises(ModelMissing, match="no config"):
        find(tmp_path, str(tmp_path))


def test_a_file_of_a_model_is_left_to_the_engine(tmp_path):
    (tmp_path / "base.pt").write_bytes(b"x")
    assert find(tmp_path, str(tmp_path / "base.pt")).path == tmp_path / "base.pt"


def dead_link(folder):
    (folder / "blobs" / "blob-of-model.safetensors").unlink()


def truncated(folder):
    blob = folder / "blobs" / "blob-of-model.safetensors"
    blob.write_bytes(blob.read_bytes()[:-1])


def cut_in_the_header(folder):
    blob = folder / "blobs" / "blob-of-model.safetensors"
    blob.write_bytes(blob.read_bytes()[:5])


def no_weights(folder):
    (folder / "snapshots" / ("a" * 40) / "model.safetensors").unlink()


def missing_shard(folder):
    snapshot = folder / "snapshots" / ("a" * 40)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def no_config(folder):
    (folder / "snapshots" / ("a" * 40) / "config.json").unlink()


def no_snapshot(folder):
    (folder / "snapshots" / ("a" * 40)).rename(folder / "snapshots" / ("b" * 40))


def no_commit(folder):
    (folder / "refs" / "main").write_text("")


def no_manifest(folder):
    (folder / "manifest.json").write_text('{"repo": "x"}')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (dead_link, "link to nothing"),
        (truncated, "bytes instead of"),
        (cut_in_the_header, "within its header"),
        (no_weights, "no weights"),
        (missing_shard, r"model-00002-of-00002\.safetensors"),
        (no_config, r"no config\.json"),
        (no_snapshot, "files are gone"),
        (no_commit, "names no commit"),
        (no_manifest, "no manifest"),
    ],
)
def test_damage_is_seen_without_reading_the_weights(tmp_path, damage, said):
    folder = hub_cache(tmp_path / "models")
    damage(folder)
    with pytest.raises(CorruptModelCache, match=said) as caught:
        find(tmp_path / "models")
    assert "models download openai/whisper-base" in (caught.value.hint or "")


def test_what_is_not_there_and_may_not_be_fetched(tmp_path):
    error = cache.missing(parse_model("tiny"), [tmp_path])
    assert "openai/whisper-tiny is not in" in error.message
    assert "models download openai/whisper-tiny" in error.hint


def test_default_roots():
    roots = cache.default_roots({"HF_HOME": "/mnt/efs/models"})
    assert [str(root) for root in roots] == ["/mnt/efs/models/hub", "/mnt/efs/models"]
    roots = cache.default_roots({"HF_HOME": "/x", "HF_HUB_CACHE": "/y"})
    assert [str(root) for root in roots] == ["/y", "/x/hub", "/x"]


def test_hashes_are_gits_and_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    content = content_hash(tmp_path / "f", md5=True)
    assert content.git == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert content.md5 == "b1946ac92492d2347c6235b4d2611184"
    assert (
        sha256_of(tmp_path / "f")
        == content.sha256
        == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )
