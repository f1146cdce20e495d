"""The roll-back runs openai-whisper on the same folder of weights."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from tests.differential.comparing import differences
from tests.differential.hearing import samples
from transcription_runner import errors
from transcription_runner.options import TranscribeOptions

roll_back = pytest.importorskip("transcription_runner.openai_engine")

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0}


@pytest.fixture(scope="module")
def engine(whisper_tiny_en):
    return roll_back.load_engine(whisper_tiny_en, device="cpu")


def test_says_what_the_package_says_with_its_own_weights(engine, openai_tiny_en, dashwood):
    seen = []
    options = TranscribeOptions(word_timestamps=True, **GREEDY)
    ours = roll_back.transcribe(engine, dashwood, options, on_progress=seen.append)
    theirs = openai_tiny_en.transcribe(
        samples(dashwood), fp16=False, verbose=None, word_timestamps=True, temperature=0.0
    )
    assert differences(ours, theirs).found == []
    assert json.loads(json.dumps(ours)) == ours
    assert seen[-1].processed_seconds == pytest.approx(7.1, abs=0.1)
    assert engine.device == "cpu"


def test_clips_beyond_the_end_do_not_hang(engine, dashwood):
    assert roll_back.transcribe(engine, dashwood, TranscribeOptions(clip_timestamps="20,30", **GREEDY))["text"] == ""


def test_what_it_cannot_do_it_refuses(engine, dashwood):
    for options in ({"mode": "batched"}, {"languages": ("en", "fr")}, {"hotwords": "Digium"}):
        with pytest.raises(errors.Usage):
            roll_back.transcribe(engine, dashwood, TranscribeOptions(**options))


def test_the_weights_are_the_packages_own(engine, openai_tiny_en):
    """What the Hub's names were turned into is, tensor by tensor, what the package's own checkpoint holds."""
    ours, theirs = engine.model.state_dict(), openai_tiny_en.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].float(), theirs[name].float()) for name in theirs)
    assert torch.equal(engine.model.alignment_heads.to_dense(), openai_tiny_en.alignment_heads.to_dense())


def test_without_the_package_it_says_how_to_get_it(monkeypatch, tmp_path):
    """Its import is blocked, as where it was never installed."""
    from transcription_runner import job
    from transcription_runner.arguments import parse, settings

    monkeypatch.setitem(sys.modules, "whisper", None)
    monkeypatch.delitem(sys.modules, "transcription_runner.openai_engine", raising=False)
    asked = settings(parse(["a.wav", "--engine", "openai-whisper", "--model", str(tmp_path)]), warn=[])
    with pytest.raises(errors.Usage, match="--engine openai-whisper is not installed here") as caught:
        job._engine(asked, tmp_path, None)
    assert "openai-whisper" in caught.value.hint
    assert caught.value.exit_code == 64
