"""`--adapter`: from a folder, and from a Hub into the cache."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from tests.materials import hub, recordings, tiny_random
from tests.materials.hub_repository import Repository

QUICK = (
    *("--temperature_increment_on_fallback", "None", "--beam_size", "None", "--language", "en", "-f", "json"),
    *("--verbose", "False", "--clip_timestamps", "0,0.5"),
)


@pytest.fixture
def adapter(tmp_path):
    """A LoRA adapter for the small random model, which changes what that writes."""
    torch.manual_seed(0)
    base = WhisperForConditionalGeneration.from_pretrained(tiny_random.tiny_random())
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_from_a_folder_and_from_a_hub(run, adapter, tmp_path):
    def text(name, *words, **environ):
        out = tmp_path / name
        done = run(recordings.dashwood(), *QUICK, "-o", out, *words, model=False, **environ)
        assert done.code == 0, done.err
        return json.loads((out / "dashwood.json").read_text())["text"], done.err

    small = ("--model", tiny_random.tiny_random())
    plain, _ = text("plain", *small)
    changed, said = text("folder", *small, "--adapter", adapter)
    assert changed != plain
    assert "merged the LORA adapter" in said
    repositories = [Repository("owner/adapter", {"main": adapter})]
    cache = ("--adapter", "owner/adapter", "--model_dir", tmp_path / "cache")
    with hub.serve(repositories) as running:
        online, _ = text("online", *small, *cache, HF_HUB_OFFLINE="0", **running.environment)
    offline, _ = text("offline", *small, *cache, HF_HUB_OFFLINE="1")
    assert online == offline == changed


def test_its_folder_is_verified_as_a_models_is_and_is_no_model(run, adapter):
    assert run("models", "verify", adapter, model=False).code == 0
    done = run(recordings.dashwood(), *QUICK, "--model", adapter, model=False)
    assert done.code == 64
    assert "give" in done.err.lower()
    assert "--adapter" in done.err
    (adapter / "adapter_config.json").unlink()
    assert run("models", "verify", adapter, model=False).code == 66


def test_what_is_not_there(run, tmp_path, adapter):
    small = ("--model", tiny_random.tiny_random(), "--model_dir", tmp_path / "cache")
    for name, code, said in (
        ("owner/adapter", 66, "owner/adapter is not in"),
        (str(tmp_path / "none"), 66, "holds no adapter"),
        ("adapter-that-is-none", 64, "is no folder"),
    ):
        done = run(recordings.dashwood(), *QUICK, *small, "--adapter", name, model=False)
        assert done.code == code, done.err
        assert said in done.err
    shutil.rmtree(adapter / "adapter_model.safetensors", ignore_errors=True)
    (adapter / "adapter_model.safetensors").unlink(missing_ok=True)
    done = run(recordings.dashwood(), *QUICK, *small, "--adapter", adapter, model=False)
    assert done.code == 80
