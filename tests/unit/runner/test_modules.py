"""Whisper's modules and configuration, against transformers' own: names, shapes, and what comes out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.activations import ACT2FN

from transcription_runner import errors, modules
from transcription_runner.audio import AudioFile
from transcription_runner.engine import load_engine
from transcription_runner.recording import Recording
from transcription_runner.windows import Cut


@pytest.fixture(scope="module", params=["random", "tiny.en"])
def folder(request, tiny_random_whisper, whisper_tiny_en):
    return tiny_random_whisper if request.param == "random" else whisper_tiny_en


@pytest.fixture(scope="module")
def theirs(folder):
    return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=[True, False], ids=["packed", "as it is"])
def ours(request, folder):
    return load_engine(folder, device="cpu", compute_type="float32", pack=request.param)


def test_names_and_shapes(folder, theirs):
    state = load_engine(folder, device="cpu", pack=False).network.model.state_dict()
    wanted = theirs.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_a_whole_pass_says_the_same(ours, theirs, dashwood):
    recording = Recording(AudioFile(dashwood), ours.mel)
    recording.scan([(0.0, None)])
    mel = ours.mel.windows([recording.sound(Cut(((0, recording.frames),)))])
    tokens = [ours.tokenizer.sot, ours.tokenizer.timestamp_begin, *ours.tokenizer.encode(" Mr. John Dashwood had not")]
    with torch.inference_mode():
        wanted = theirs(input_features=mel, decoder_input_ids=torch.tensor([tokens]))
    features = ours.encode(mel)
    assert torch.allclose(features, wanted.encoder_last_hidden_state, rtol=1e-3, atol=1e-2)
    network = ours.network
    for place in range(len(tokens)):
        logits = network.prefill(network.cache(windows=1, group=1), [0], features, [tokens], [place])[0]
        assert torch.allclose(logits, wanted.logits[0, place], rtol=1e-3, atol=1e-2)


def test_defaults_are_theirs():
    theirs, ours = WhisperConfig(), modules.WhisperConfig()
    for name in ours.__dataclass_fields__:
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_real_configuration_is_read_as_theirs(folder):
    values = json.loads((folder / "config.json").read_text())
    theirs, ours = WhisperConfig.from_dict(values), modules.WhisperConfig.from_dict(values)
    for name in ours.__dataclass_fields__:
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("name", modules._ACTIVATIONS)
def test_activations_are_theirs(name):
    x = torch.linspace(-6, 6, 1001)
    assert torch.allclose(modules._ACTIVATIONS[name]()(x), ACT2FN[name](x), atol=1e-6)
    assert modules.is_exact_gelu(modules._ACTIVATIONS[name]()) is (name == "gelu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d_model": "384"}, "d_model is '384'"),
        ({"d_model": 385}, "a width of 385"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"encoder_layers": -1}, "encoder_layers is -1"),
        ({"decoder_attention_heads": 0}, "0 heads"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1"),
        ({"activation_function": "mish"}, "activation_function is 'mish'"),
    ],
)
def test_a_configuration_that_makes_no_sense(change, said, tiny_random_whisper, tmp_path):
    values = json.loads((tiny_random_whisper / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(errors.CorruptModelCache, match=said):
        load_engine(tmp_path, device="cpu")


@pytest.mark.parametrize(("given", "taken"), [([50257, 50256], 50257), (None, None), (50256, 50256)])
def test_the_end_of_text_may_be_a_list(given, taken):
    assert modules.WhisperConfig.from_dict({"eos_token_id": given}).eos_token_id == taken


def test_a_result_needs_no_transformers(tiny_random_whisper, dashwood):
    code = (
        "import sys; from pathlib import Path\n"
        "from transcription_runner.engine import load_engine\n"
        "from transcription_runner.options import TranscribeOptions\n"
        "from transcription_runner.transcribe import transcribe\n"
        "options = TranscribeOptions(word_timestamps=True, clip_timestamps='0,1', beam_size=None, temperature=0.0)\n"
        f"transcribe(load_engine(Path({str(tiny_random_whisper)!r})), Path({str(dashwood)!r}), options)\n"
        "print('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
