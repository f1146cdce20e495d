"""Loading a model, and what can be wrong with it."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from transcription_runner import errors
from transcription_runner.engine import load_engine, memory_errors
from transcription_runner.threads import available_cpus


@pytest.fixture
def folder(tiny_random_whisper, tmp_path):
    target = tmp_path / "model"
    shutil.copytree(tiny_random_whisper, target, symlinks=False)
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    return target


def test_loads_what_the_hub_has(random_engine):
    assert random_engine.device == "cpu"
    assert random_engine.network.dtype == torch.float32
    assert torch.get_num_threads() == available_cpus()


def test_shards_and_torch_s_own_format(folder, tiny_random_whisper):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: weights[name].clone() for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = load_engine(folder, device="cpu", pack=False)
    (folder / "model.safetensors.index.json").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    pickled = load_engine(folder, device="cpu", pack=False)
    wanted = load_engine(tiny_random_whisper, device="cpu", pack=False).network.model.state_dict()
    for engine in (sharded, pickled):
        state = engine.network.model.state_dict()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_cuda_that_is_not_there_is_the_cpu(folder, caplog):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    with caplog.at_level(logging.WARNING):
        assert load_engine(folder, device="cuda").device == "cpu"
    assert "no CUDA device" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "garbage", "missing", "shape", "config", "no config"])
def test_a_checkpoint_that_does_not_load_is_a_corrupt_cache(folder, damage):
    file = folder / "model.safetensors"
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:-1000])
        case "empty":
            file.write_bytes(b"")
        case "gone":
            file.unlink()
        case "garbage":
            file.write_bytes(b"\xff" * 1000)
        case "missing" | "shape":
            weights = load_file(file)
            name = "model.encoder.conv1.weight"
            weights[name] = weights[name][:1].clone()
            save_file(weights if damage == "shape" else {k: v for k, v in weights.items() if k != name}, file)
        case "config":
            (folder / "config.json").write_text("{")
        case "no config":
            (folder / "config.json").unlink()
    with pytest.raises(errors.CorruptModelCache) as caught:
        load_engine(folder, device="cpu")
    assert caught.value.exit_code == 80


def test_a_model_of_another_kind_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(errors.Usage, match="bert, not Whisper"):
        load_engine(folder, device="cpu")


def test_no_model_at_all(tmp_path):
    with pytest.raises(errors.ModelMissing):
        load_engine(tmp_path / "nothing", device="cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: x"),
    ],
)
def test_memory_that_is_not_enough(error):
    with pytest.raises(errors.OutOfMemory), memory_errors():
        raise error


def test_other_errors_are_their_own():
    with pytest.raises(RuntimeError, match="something else"), memory_errors():
        raise RuntimeError("something else")


def test_detects_among_the_languages_allowed(random_engine):
    features = torch.zeros(2, 1500, random_engine.network.config.d_model)
    for found in random_engine.detect(features, ["fr", "de"]):
        assert sorted(found) == ["de", "fr"]
        assert sum(found.values()) == pytest.approx(1.0)
    with pytest.raises(errors.Usage, match="none of the languages"):
        random_engine.detect(features, ["xx"])
