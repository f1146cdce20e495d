"""Hours in which nobody speaks: what they cost is counted in windows that an engine is asked for, and never in time."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.materials import containers, recordings
from tests.materials.plans import Pause, Plan, Say
from tests.unit.runner.scripted import BEGIN, Codec, result
from transcription_runner.audio import SAMPLE_RATE
from transcription_runner.decoding import Session
from transcription_runner.engine import Engine
from transcription_runner.options import TEMPERATURES, TranscribeOptions
from transcription_runner.sequential import Sequential
from transcription_runner.transcribe import transcribe
from transcription_runner.windows import Decode

GREEDY = {"beam_size": None, "best_of": None}


@pytest.fixture
def asked(monkeypatch):
    """How many windows were encoded and how many decoded."""
    counts = {"encoded": 0, "decoded": 0}
    encode, prepare = Engine.encode, Session.prepare

    def encoding(self, mel):
        counts["encoded"] += len(mel)
        return encode(self, mel)

    def preparing(self, starts, skip=0):
        counts["decoded"] += len(starts)
        return prepare(self, starts, skip)

    monkeypatch.setattr(Engine, "encode", encoding)
    monkeypatch.setattr(Session, "prepare", preparing)
    return counts


def sparse(path: Path, hours: float) -> Path:
    """Digital silence of any length, which takes no room on the disk."""
    size = round(hours * 3600) * SAMPLE_RATE * 2
    with path.open("wb") as out:
        out.write(struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16))
        out.write(struct.pack("<4sI", b"data", size))
        out.truncate(44 + size)
    return path


def test_two_hours_of_silence_are_not_decoded(tiny_en, asked, tmp_path):
    found = transcribe(tiny_en, sparse(tmp_path / "silence.wav", 2), TranscribeOptions(mode="batched"))
    assert found["text"] == ""
    assert found["segments"] == []
    assert asked == {"encoded": 0, "decoded": 0}


def test_the_language_of_silence_is_asked_for_once(base, asked, tmp_path):
    found = transcribe(base, sparse(tmp_path / "silence.wav", 0.5), TranscribeOptions(mode="batched"))
    assert found["segments"] == []
    assert asked == {"encoded": 1, "decoded": 0}


def test_two_hours_of_digital_silence_are_not_decoded_in_sequence_either(tiny_en, asked, tmp_path):
    found = transcribe(tiny_en, sparse(tmp_path / "silence.wav", 2), TranscribeOptions(mode="sequential"))
    assert found["text"] == ""
    assert found["segments"] == []
    assert asked == {"encoded": 0, "decoded": 0}


@pytest.mark.parametrize("kind", ["noise", "music"])
def test_noise_and_music_cost_little_and_yield_no_words(tiny_en, asked, tmp_path, kind):
    source = getattr(recordings, kind)()
    minutes = 30
    times = round(minutes * 60 / recordings.transcript(source).duration)
    path = containers.repeat(source, times, tmp_path / f"{kind}.mka")
    found = transcribe(tiny_en, path, TranscribeOptions(mode="batched"))
    assert found["text"].strip() == ""
    assert asked["encoded"] <= minutes / 10  # of 60 windows
    assert asked["decoded"] <= asked["encoded"] * len(TEMPERATURES)


def test_a_sentence_among_hours_costs_its_window(tiny_en, asked, tmp_path):
    said = Plan((Pause(1500), Say("en/vm-goodbye"), Pause(1500)))
    said.write(tmp_path / "a.flac")
    found = transcribe(tiny_en, tmp_path / "a.flac", TranscribeOptions(mode="batched", **GREEDY))
    assert "goodbye" in found["text"].lower()
    assert 1499 < found["segments"][0]["start"] < found["segments"][-1]["end"] < 1506
    assert asked["encoded"] == 1


def drive(answer, *, hours: int) -> int:
    """How many decodings a file takes, in whisper's own way through it."""
    machine = Sequential(TranscribeOptions(), Codec(), frames=hours * 360_000, language="en")
    count = 0
    while not machine.done:
        (request,) = machine.requests()
        assert isinstance(request, Decode)
        machine.take(request, answer(request))
        count += 1
    return count


def test_in_sequence_a_silent_window_is_decoded_once():
    silent = result([BEGIN, 1, BEGIN + 100], logprob=-1.5, silence=0.9)
    assert drive(lambda _: silent, hours=10) == 1200


def test_in_sequence_the_worst_answers_are_bounded():
    """Each window climbs the whole ladder, and leads nowhere or next to nowhere."""
    nowhere = result([BEGIN, 1, BEGIN, BEGIN], logprob=-1.5, silence=0.1, ratio=3.0)
    assert drive(lambda _: nowhere, hours=1) == 120 * len(TEMPERATURES)
    creeping = result([BEGIN, 1, BEGIN + 1, BEGIN + 1], logprob=-1.5, silence=0.1, ratio=3.0)
    assert drive(lambda _: creeping, hours=1) <= 121 * 10 * len(TEMPERATURES)
