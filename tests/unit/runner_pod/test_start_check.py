"""What a pod finds wrong with its model before, or while, it loads it: exit code 80, and no transcript."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.materials import hub
from tests.materials.hub_repository import Repository
from tests.unit.runner_pod.conftest import command
from transcription_runner.download import download_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_random_whisper: Path) -> Path:
    """A cache with a small random model that really loads."""
    root = tmp_path_factory.mktemp("whole") / "models"
    with hub.serve([Repository("random/whisper", {"main": tiny_random_whisper})]) as serving:
        before = dict(os.environ)
        os.environ.update(serving.environment)
        try:
            download_model("random/whisper", "main", root)
        finally:
            os.environ.clear()
            os.environ.update(before)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "models", symlinks=True))


def transcribe(root: Path, audio: Path, out: Path) -> tuple[int, dict]:
    log = out.parent / "log"
    done = command(
        *(audio, "--model", "random/whisper", "--model_dir", root, "-o", out, "--device", "cpu", "-f", "json"),
        *("--clip_timestamps", "0,1", "--temperature_increment_on_fallback", "None", "--beam_size", "None"),
        HF_HUB_OFFLINE="1",
        TRANSCRIPTION_TERMINATION_LOG=str(log),
    )
    return done.code, json.loads(log.read_bytes())


def snapshot(root: Path) -> Path:
    return next((root / "models--random--whisper" / "snapshots").iterdir())


def missing(root: Path) -> None:
    (snapshot(root) / "tokenizer.json").unlink()


def dead_link(root: Path) -> None:
    (snapshot(root) / "model.safetensors").resolve().unlink()


def truncated(root: Path) -> None:
    weights = (snapshot(root) / "model.safetensors").resolve()
    os.truncate(weights, weights.stat().st_size - 1)


def grown(root: Path) -> None:
    with (snapshot(root) / "generation_config.json").open("ab") as stream:
        stream.write(b" ")


def interrupted(root: Path) -> None:
    """huggingface_hub, killed between two files: a snapshot with some, and no manifest."""
    (root / "models--random--whisper" / "manifest.json").unlink()
    (snapshot(root) / "model.safetensors").unlink()


def flipped_config(root: Path) -> None:
    path = (snapshot(root) / "config.json").resolve()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def flipped_tokenizer(root: Path) -> None:
    path = (snapshot(root) / "tokenizer.json").resolve()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing, "tokenizer.json"),
        (dead_link, "link to nothing"),
        (truncated, "bytes instead of"),
        (grown, "generation_config.json"),
        (interrupted, "no weights"),
        (flipped_config, "config.json"),
        (flipped_tokenizer, "tokenizer.json"),
    ],
)
def test_damage_ends_with_80(root, tmp_path, dashwood, damage, said):
    damage(root)
    code, receipt = transcribe(root, dashwood, tmp_path / "out")
    assert code == 80
    assert receipt["error"]["class"] == "CorruptModelCache"
    assert said in receipt["error"]["message"]
    assert "models download random/whisper" in receipt["error"]["hint"]
    assert not list((tmp_path / "out").glob("*.json"))


def test_a_bit_of_the_weights_is_found_on_demand(root, tmp_path, dashwood):
    """Weights of another value load: only the full check tells."""
    weights = (snapshot(root) / "model.safetensors").resolve()
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))
    code, receipt = transcribe(root, dashwood, tmp_path / "out")
    assert code == 0
    size = sum(path.stat().st_size for path in snapshot(root).iterdir())
    assert receipt["cache"]["bytesRead"] == size
    assert receipt["cache"]["freeBytes"] > 0
    assert command("models", "verify", "random/whisper", "--model_dir", root).code == 80
