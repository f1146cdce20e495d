"""The model cache on a node: one download for all, damage that repairs itself, and what a deletion takes away."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from tests import deployment
from tests.e2e.conftest import RESUMED
from tests.e2e.world import Model
from tests.kubectl import condition, eventually
from tests.materials import recordings
from tests.materials.faults import Fault

TINY, BASE = "openai/whisper-tiny.en", "openai/whisper-base"
WEIGHTS = "*whisper-tiny.en*/model.safetensors"
SLOW = 6_000_000


@pytest.fixture
def tiny(kubectl, operator, volume, hub_here) -> Model:
    """tiny.en, which nobody has brought into the cache yet."""
    model = Model(kubectl, volume, TINY)
    model.delete()
    assert not model.folder.exists()
    hub_here.behaviour.forget()
    yield model
    hub_here.behaviour.clear()


@pytest.fixture
def cached(tiny, kubectl) -> Model:
    """tiny.en in the cache, declared ahead."""
    declare(kubectl, "ahead", TINY)
    tiny.ready()
    return tiny


def declare(kubectl, name, repo):
    kubectl.apply(
        {
            "apiVersion": "transcription.dev/v1alpha1",
            "kind": "WhisperModel",
            "metadata": {"name": name},
            "spec": {"source": {"hub": {"repo": repo}}},
        }
    )


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def heard(namespace, name="again"):
    """A job with the model, which must come to its end by itself."""
    status = namespace.job(name, recording=recordings.dashwood(), model="tiny.en").succeeded()
    assert "prudently" in status["result"]["text"]


def test_ten_jobs_on_an_empty_cache(namespace, kubectl, tiny, hub_here, whisper_tiny_en):
    hub_here.behaviour.add(Fault("slow", path=WEIGHTS, rate=SLOW))
    jobs = [namespace.job(f"of-ten-{n}", recording=recordings.dashwood(), model="tiny.en") for n in range(10)]

    shown = jobs[0].until(lambda r: "%" in condition(r, "ModelReady").get("message", ""), "tells how far it is")
    assert shown["status"]["phase"] == "WaitingForModel"
    assert condition(shown, "ModelReady")["reason"] == "Downloading"
    assert not kubectl.list("jobs", namespace.name), "no runner before the model is there"
    assert len(kubectl.list("jobs", deployment.NAMESPACE, "app.kubernetes.io/component=download")) >= 1
    columns = kubectl.run("get", "wm")
    assert "PROGRESS" in columns
    assert "Downloading" in columns
    hub_here.behaviour.clear()

    for job in jobs:
        assert "prudently" in job.succeeded(seconds=900)["result"]["text"]
    assert hub_here.behaviour.sent(WEIGHTS) == (whisper_tiny_en / "model.safetensors").stat().st_size, "one download"
    assert tiny.ready()["status"]["repairs"] == 0


def cut_short(path):
    with path.resolve().open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


def lost(path):
    path.resolve().unlink()
    path.unlink()


def without_its_blob(path):
    path.resolve().unlink()
    assert path.is_symlink()
    assert not path.exists()


def flip(path, at):
    with path.resolve().open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


def unreadable(path):
    """A bit of the header, which no look at sizes finds, and loading does."""
    flip(path, 9)


@pytest.mark.parametrize("damage", [cut_short, lost, without_its_blob, unreadable])
def test_damage_is_repaired_by_itself(namespace, cached, damage):
    weights = cached.file("model.safetensors")
    before = sha256(weights)
    damage(weights)

    heard(namespace)

    assert cached.ready(repairs=1)
    assert sha256(cached.file("model.safetensors")) == before


def test_a_bit_that_only_a_full_check_finds(namespace, cached):
    weights = cached.file("model.safetensors")
    before = sha256(weights)
    flip(weights, weights.stat().st_size - 100)

    cached.annotate("verify", "now")

    assert cached.ready(repairs=1)
    assert sha256(cached.file("model.safetensors")) == before
    heard(namespace)


def test_a_download_that_is_killed_goes_on_where_it_was(kubectl, tiny, hub_here, whisper_tiny_en):
    size = (whisper_tiny_en / "model.safetensors").stat().st_size
    hub_here.behaviour.add(Fault("slow", path=WEIGHTS, rate=SLOW))
    declare(kubectl, "killed", TINY)
    eventually(lambda: hub_here.behaviour.sent(WEIGHTS), lambda sent: sent > size / 4, what="a quarter is on its way")
    [pod] = [
        p
        for p in kubectl.list("pods", deployment.NAMESPACE, "app.kubernetes.io/component=download")
        if p["status"]["phase"] == "Running"
    ]
    kubectl.run("delete", "pod", "-n", deployment.NAMESPACE, pod["metadata"]["name"], "--grace-period=0", "--force")
    hub_here.behaviour.clear()

    tiny.ready()

    sent = hub_here.behaviour.sent(WEIGHTS)
    assert sent < 1.5 * size, f"{sent} bytes for a file of {size}"
    assert any(request.range for request in hub_here.behaviour.requests(WEIGHTS, "content")), "it was resumed"
    assert sha256(tiny.file("model.safetensors")) == sha256(whisper_tiny_en / "model.safetensors")


def test_a_deletion_takes_the_models_own_files_and_no_others(kubectl, cached, volume):
    other = Model(kubectl, volume, BASE)
    if other.resource() is None:
        declare(kubectl, "kept", BASE)
    other.ready()
    before = sorted(path for path in other.folder.rglob("*"))

    cached.delete()

    assert not cached.folder.exists()
    assert sorted(path for path in other.folder.rglob("*")) == before
    assert other.ready()


def test_all_models_at_once(kubectl, cached, volume):
    for name, repo in (("one-of-all", RESUMED[0]), ("another-of-all", RESUMED[1])):
        declare(kubectl, name, repo)
        Model(kubectl, volume, repo).ready()
    mine = volume / "models" / "mine" / "notes.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("nobody's but mine")
    kept = sorted((volume / "transcripts").rglob("*"))

    kubectl.run("delete", "wm", "--all", "--timeout=200s")

    assert not kubectl.list("whispermodels")
    assert not list((volume / "models").glob("models--*"))
    assert mine.read_text() == "nobody's but mine"
    assert sorted((volume / "transcripts").rglob("*")) == kept
    shutil.rmtree(mine.parent)


def test_a_fresh_model_leaves_the_cache_alone(namespace, tiny, hub_here, whisper_tiny_en):
    status = namespace.job("fresh", recording=recordings.dashwood(), model="tiny.en", cache="Fresh").succeeded()

    assert condition({"status": status}, "ModelReady")["reason"] == "NotNeeded"
    assert hub_here.behaviour.sent(WEIGHTS) == (whisper_tiny_en / "model.safetensors").stat().st_size
    assert tiny.resource() is None
    assert not tiny.folder.exists()
