"""A PEFT adapter: what it does to a model, and what cannot be done with it. Adapters are made by peft itself."""

from __future__ import annotations

import json
import logging
import shutil

import peft
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from tests.materials import tiny_random
from transcription_runner import errors
from transcription_runner.engine import load_engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe

ATTENTION = ["q_proj", "v_proj"]
KINDS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION),
    "rslora": peft.LoraConfig(r=4, use_rslora=True, target_modules=["k_proj", "fc1", "fc2", "out_proj"]),
    "dora": peft.LoraConfig(r=4, use_dora=True, target_modules=ATTENTION),
    "projection": peft.LoraConfig(r=4, target_modules=["proj_out"]),
    "embedding": peft.LoraConfig(r=4, target_modules=["embed_tokens"]),
    "whole modules": peft.LoraConfig(r=4, target_modules=ATTENTION, modules_to_save=["layer_norm"]),
    "biases": peft.LoraConfig(r=4, target_modules=ATTENTION, bias="lora_only"),
    "loha": peft.LoHaConfig(r=4, target_modules=ATTENTION),
    "ia3": peft.IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]),
}


@pytest.fixture(scope="module")
def small():
    return tiny_random.tiny_random()


def model_of(folder):
    return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def adapted(folder, config, seed=0):
    """A model with an adapter that changes something, as after some training."""
    torch.manual_seed(seed)
    model = peft.get_peft_model(model_of(folder), config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = 0.2 if "layer_norm" not in name else 0.01
            parameter.data += torch.randn_like(parameter) * scale
    return model.eval()


@pytest.fixture
def make(tmp_path, small):
    def made(config, name="adapter", base=small):
        model = adapted(base, config)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name, model

    return made


def logits(engine, features, tokens):
    network = engine.network
    cache = network.cache(windows=1, group=1)
    return network.prefill(cache, [0], network.encode(features), [tokens], [len(tokens) - 1])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_says_what_peft_itself_says(make, small, kind):
    folder, model = make(KINDS[kind])
    torch.manual_seed(1)
    features, tokens = torch.randn(1, 80, 3000), [50258, 50259, 50359, 1000, 2000]
    with torch.inference_mode():
        theirs = model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
    ours = logits(load_engine(small, device="cpu", adapter=folder), features, tokens)
    plain = logits(load_engine(small, device="cpu"), features, tokens)
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(ours, plain, atol=1e-2, rtol=1e-2), "the adapter changes nothing: a test that cannot fail"


def test_torchs_own_format(make, small):
    folder, model = make(KINDS["lora"])
    model.save_pretrained(folder, safe_serialization=False)
    (folder / "adapter_model.safetensors").unlink()
    assert (folder / "adapter_model.bin").exists()
    engine = load_engine(small, device="cpu", adapter=folder, pack=False)
    wanted = adapted(small, KINDS["lora"]).merge_and_unload().state_dict()
    name = "model.decoder.layers.1.encoder_attn.v_proj.weight"
    assert torch.allclose(engine.network.model.state_dict()[name], wanted[name])


def test_is_merged_in_full_precision(make, small):
    folder, model = make(KINDS["lora"])
    engine = load_engine(small, device="cpu", compute_type="bfloat16", adapter=folder, pack=False)
    wanted = model.merge_and_unload().to(torch.bfloat16).state_dict()
    got = engine.network.model.state_dict()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in got)


def test_changes_what_is_written_as_it_was_taught(whisper_tiny_en, dashwood, tmp_path):
    """Real weights, taught for some steps to write another sentence for the same voice."""
    sentence = " The whisper has learnt another sentence."
    plain = load_engine(whisper_tiny_en, device="cpu")
    options = TranscribeOptions(beam_size=None, best_of=None, temperature=(0.0,))
    before = transcribe(plain, dashwood, options)["text"]
    assert "John Dashwood" in before
    torch.manual_seed(0)
    model = peft.get_peft_model(
        model_of(whisper_tiny_en), peft.LoraConfig(r=8, lora_alpha=32, target_modules=ATTENTION, lora_dropout=0.0)
    )
    from transcription_runner.audio import AudioFile
    from transcription_runner.recording import Recording
    from transcription_runner.windows import Cut

    recording = Recording(AudioFile(dashwood), plain.mel)
    recording.scan([(0.0, None)])
    features = plain.mel.windows([recording.sound(Cut(((0, recording.frames),)))])
    codec = plain.tokenizer
    begin = codec.timestamp_begin
    tokens = [codec.sot, begin, *codec.encode(sentence), begin + 350, codec.eot]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(40):
        loss = model(
            input_features=features, decoder_input_ids=torch.tensor([tokens[:-1]]), labels=torch.tensor([tokens[1:]])
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "taught")
    engine = load_engine(whisper_tiny_en, device="cpu", adapter=tmp_path / "taught")
    assert transcribe(engine, dashwood, options)["text"] == sentence


def refused(small, folder, kind=errors.Usage):
    with pytest.raises(kind) as caught:
        load_engine(small, device="cpu", adapter=folder)
    return caught.value


def test_an_adapter_of_a_wider_model(make, small):
    folder, _ = make(KINDS["lora"], base=tiny_random.tiny_random(width=64))
    error = refused(small, folder)
    assert "does not fit this model" in error.message
    assert "It was made for" in error.hint
    assert error.exit_code == 64


@pytest.mark.parametrize("layers", [1, 3])
def test_an_adapter_of_a_model_with_other_layers(make, small, layers):
    """Every tensor has the right shape: large-v3's adapter on large-v3-turbo would load, and be of no use."""
    folder, _ = make(KINDS["lora"], base=tiny_random.tiny_random(layers=layers))
    error = refused(small, folder)
    assert "does not fit this model" in error.message
    assert "no weights for its modules" in error.message if layers == 1 else "that this model lacks" in error.message


def test_an_adapter_of_another_kind_of_model(make, small):
    folder, _ = make(KINDS["lora"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["query_key_value"]}))
    assert "query_key_value" in refused(small, folder).message


def test_a_prompt_is_nothing_to_merge(small, tmp_path):
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4)
    config.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    error = refused(small, tmp_path)
    assert "PROMPT_TUNING" in error.message
    assert "LORA" in error.hint


def test_a_kind_that_is_not_known(small, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "OF_TOMORROW"}')
    assert "OF_TOMORROW" in refused(small, tmp_path).message


def test_no_adapter_at_all(small, tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        error = refused(small, folder, errors.ModelMissing)
        assert "has no adapter_config.json" in error.message
        assert error.exit_code == 66


@pytest.mark.parametrize("damage", ["config", "no object", "cut", "gone"])
def test_a_broken_one(make, small, damage):
    folder, _ = make(KINDS["lora"])
    weights = folder / "adapter_model.safetensors"
    match damage:
        case "config":
            (folder / "adapter_config.json").write_text("{")
        case "no object":
            (folder / "adapter_config.json").write_text("[]")
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "gone":
            weights.unlink()
    assert refused(small, folder, errors.CorruptModelCache).exit_code == 80


def test_an_adapter_given_as_the_model(make):
    folder, _ = make(KINDS["lora"])
    with pytest.raises(errors.Usage, match="not a whole model") as caught:
        load_engine(folder, device="cpu")
    assert "--adapter" in caught.value.hint


def test_the_roll_back_takes_it_too(make, small, caplog):
    roll_back = pytest.importorskip("transcription_runner.openai_engine")
    folder, model = make(KINDS["lora"])
    engine = roll_back.load_engine(small, device="cpu", adapter=folder)
    wanted = model.merge_and_unload().state_dict()["model.encoder.layers.0.self_attn.q_proj.weight"]
    assert torch.allclose(engine.model.encoder.blocks[0].attn.query.weight, wanted)
    with caplog.at_level(logging.INFO), pytest.raises(errors.Usage, match="one tensor for the embedding"):
        roll_back.load_engine(small, device="cpu", adapter=make(KINDS["projection"], "other")[0])


def test_only_where_it_is_asked_for(small, tmp_path):
    import subprocess
    import sys

    copy = tmp_path / "model"
    shutil.copytree(small, copy)
    code = (
        "import sys; from pathlib import Path; from transcription_runner.engine import load_engine;"
        f"load_engine(Path({str(copy)!r}), device='cpu'); print('peft' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
