"""The CPU's linear layers: on real weights and people's speech, against transformers' own."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from tests.materials import recordings, speech, wer
from tests.materials.plans import Pause, Plan, Say
from transcription_runner import linears
from transcription_runner.audio import AudioFile
from transcription_runner.engine import load_engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.recording import Recording
from transcription_runner.transcribe import transcribe
from transcription_runner.windows import Cut

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0, "language": "en"}

#: Words in a hundred that a lesser precision may get wrong beyond those that float32 does.
MARGIN = 0.02


@pytest.fixture(scope="module")
def sentences():
    """What LibriVox's reader says, with half a second after each sentence."""
    said = list(speech.clips("librivox").values())
    plan = Plan(tuple(part for clip in said for part in (Say(clip.name), Pause(0.5))))
    return recordings.made("librivox.wav", plan), " ".join(clip.text for clip in said)


@pytest.fixture(scope="module")
def mel(tiny_en):
    """Three windows of different speech, as the encoder takes them."""
    recording = Recording(AudioFile(recordings.english()), tiny_en.mel)
    recording.scan([(0.0, None)])
    return tiny_en.mel.windows([recording.sound(Cut(((first, first + 900),))) for first in (0, 700, 1400)])


@pytest.fixture(scope="module", params=["bfloat16", "int8"])
def lesser(request, whisper_base):
    return load_engine(whisper_base, device="cpu", compute_type=request.param)


def test_float32_encodes_as_transformers_does(tiny_en, whisper_tiny_en, mel):
    whole = load_engine(whisper_tiny_en, device="cpu", pack=False)
    assert linears.is_packed(tiny_en.network.model.model.encoder)
    assert not linears.is_packed(whole.network.model.model.encoder)
    ours, theirs = tiny_en.encode(mel), whole.encode(mel)
    assert (ours - theirs).norm() / theirs.norm() < 1e-4
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2)


def test_float32_writes_what_transformers_modules_do(tiny_en, whisper_tiny_en, dashwood):
    whole = load_engine(whisper_tiny_en, device="cpu", pack=False)
    options = TranscribeOptions(**GREEDY)
    ours, theirs = transcribe(tiny_en, dashwood, options), transcribe(whole, dashwood, options)
    assert ours["text"] == theirs["text"]
    assert [each["tokens"] for each in ours["segments"]] == [each["tokens"] for each in theirs["segments"]]


def test_a_lesser_precision_hears_as_well(base, lesser, sentences):
    audio, said = sentences
    options = TranscribeOptions(**GREEDY)
    exact = wer.word_error_rate(said, transcribe(base, audio, options)["text"])
    found = wer.word_error_rate(said, transcribe(lesser, audio, options)["text"])
    assert found <= exact + MARGIN


def test_a_window_does_not_depend_on_its_neighbours(lesser, mel):
    together = lesser.encode(mel)
    for number, each in enumerate(mel):
        assert torch.equal(lesser.encode(each[None])[0], together[number])


def test_a_row_in_int8_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    layer = linears.Int8Linear(torch.randn(64, 96), torch.randn(64))
    rows = torch.randn(40, 96) * torch.logspace(-3, 3, 40)[:, None]
    together = layer(rows)
    for number, row in enumerate(rows):
        assert torch.equal(layer(row[None])[0], together[number])


def test_a_row_of_zeros_in_int8_is_the_bias():
    bias = torch.randn(64)
    assert torch.equal(linears.Int8Linear(torch.randn(64, 96), bias)(torch.zeros(1, 96))[0], bias)


@pytest.mark.parametrize("limit", [127, 63])
def test_int8_is_near(monkeypatch, limit):
    """Also with the 7 bits that are left to activations on a processor without VNNI."""
    monkeypatch.setattr(linears, "_ROW_LIMIT", limit)
    torch.manual_seed(0)
    plain = nn.Linear(512, 256)
    x = torch.randn(3, 5, 512)
    with torch.inference_mode():
        wanted, found = plain(x), linears.packed(plain, "int8")(x)
        assert found.shape == wanted.shape
        assert (found - wanted).norm() / wanted.norm() < 1.5 / limit
        wanted, found = nn.functional.gelu(wanted), linears.packed(plain, "int8", gelu=True)(x)
        assert (found - wanted).norm() / wanted.norm() < 2 / limit


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_no_weights_are_held_twice(whisper_tiny_en, kind):
    engine = load_engine(whisper_tiny_en, device="cpu", compute_type=kind)
    assert not [module for module in engine.network.model.modules() if isinstance(module, nn.Linear)]
    sizes = {name: tensor.numel() for name, tensor in engine.network.model.named_parameters()}
    assert max(sizes, key=lambda name: sizes[name]) == "model.decoder.embed_tokens.weight"
    assert not [name for name in sizes if "fc1" in name or "_proj" in name]


def test_what_a_cpu_is_not_made_for_is_float32_with_a_warning(tiny_random_whisper, caplog):
    with caplog.at_level(logging.WARNING):
        engine = load_engine(tiny_random_whisper, device="cpu", compute_type="float16")
    assert engine.network.dtype == torch.float32
    assert "float16 is of no use on this CPU" in caplog.text
