"""Many files, one batch."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from tests.differential.comparing import differences
from tests.materials import recordings
from transcription_runner import errors
from transcription_runner.decoding import Session
from transcription_runner.engine import Engine
from transcription_runner.options import TranscribeOptions, VadOptions
from transcription_runner.recording import Recording
from transcription_runner.transcribe import transcribe, transcribe_many

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0, "language": "en"}


def test_memory_that_is_not_enough_halves_the_batch_and_loses_nothing(random_engine, monkeypatch, caplog):
    options = TranscribeOptions(mode="batched", batch_size=4, **GREEDY)
    wanted = transcribe(random_engine, recordings.with_long_pauses(), options)
    launch = Session.launch
    most = 0

    def small(self):
        nonlocal most
        if len(self) > 1:
            raise errors.OutOfMemory("the GPU's memory is not enough")
        most = max(most, len(self))
        return launch(self)

    monkeypatch.setattr(Session, "launch", small)
    assert differences(transcribe(random_engine, recordings.with_long_pauses(), options), wanted).found == []
    assert most == 1
    assert "going on with" in caplog.text


def test_what_a_batch_took_is_free_before_the_next_is_tried(random_engine, monkeypatch):
    """An error that passed through a context manager is part of a circle from Python 3.12 on, and keeps its frames."""
    alive: list[weakref.ref[Session]] = []
    prepare = Session.prepare

    def scarce(self, starts, skip=0):
        assert all(each() is None for each in alive)
        if self.capacity > 1:
            alive.append(weakref.ref(self))
            error = errors.OutOfMemory("the GPU's memory is not enough")
            error.circle = error
            raise error
        return prepare(self, starts, skip)

    monkeypatch.setattr(Session, "prepare", scarce)
    options = TranscribeOptions(mode="batched", batch_size=4, **GREEDY)
    gc.collect()
    gc.disable()
    try:
        transcribe(random_engine, recordings.dashwood(), options)
    finally:
        gc.enable()
    assert len(alive) == 2, "four windows, then two"


def test_the_engine_does_not_wait_for_all_of_a_recording_to_be_read_again(random_engine, monkeypatch):
    """Of what is not kept some windows are read, and decoded while the next are."""
    events = []
    sound, launch = Recording.sound, Session.launch

    def reading(self, cut):
        events.append("read")
        return sound(self, cut)

    def launching(self):
        events.append("decode")
        return launch(self)

    monkeypatch.setattr(Recording, "sound", reading)
    monkeypatch.setattr(Session, "launch", launching)
    monkeypatch.setattr("transcription_runner.scheduler.ENCODED_AT_ONCE", 2)
    monkeypatch.setattr("transcription_runner.recording.KEPT_SECONDS", 5)
    options = TranscribeOptions(mode="batched", batch_size=16, vad=VadOptions(enabled=False), **GREEDY)
    found = transcribe(random_engine, recordings.with_long_pauses(), options)
    first = events.index("decode")
    assert events[:first] == ["read"] * 2
    assert events[first:].count("read") >= 2
    monkeypatch.setattr("transcription_runner.recording.KEPT_SECONDS", 600)
    events.clear()
    assert differences(found, transcribe(random_engine, recordings.with_long_pauses(), options)).found == []
    first = events.index("decode")
    assert "read" not in events[first:], "what is in memory is all there at once"


def test_memory_that_is_not_enough_for_words_or_languages_halves_the_batch_as_well(random_engine, monkeypatch):
    options = TranscribeOptions(mode="batched", batch_size=4, word_timestamps=True, **{**GREEDY, "language": None})
    files = [recordings.with_long_pauses(), recordings.dashwood()]
    wanted = [each.result for each in transcribe_many(random_engine, files, options)]
    asked = []

    def scarce(whole):
        def call(self, features, *more):
            asked.append(len(features))
            if len(features) > 1:
                raise errors.OutOfMemory("the GPU's memory is not enough")
            return whole(self, features, *more)

        return call

    monkeypatch.setattr(Engine, "detect", scarce(Engine.detect))
    monkeypatch.setattr(Engine, "align", scarce(Engine.align))
    found = [each.result for each in transcribe_many(random_engine, files, options)]
    assert max(asked) > 1, "it was tried"
    for one, other in zip(found, wanted, strict=True):
        assert differences(one, other).found == []


def test_memory_that_is_not_enough_for_one_window_is_an_error(random_engine, monkeypatch):
    def never(self):
        raise errors.OutOfMemory("the GPU's memory is not enough")

    monkeypatch.setattr(Session, "launch", never)
    with pytest.raises(errors.OutOfMemory):
        transcribe(random_engine, recordings.dashwood(), TranscribeOptions(**GREEDY))


def test_windows_of_many_files_share_a_batch(random_engine, monkeypatch):
    seen = []
    launch = Session.launch

    def watched(self):
        seen.append(len(self))
        return launch(self)

    monkeypatch.setattr(Session, "launch", watched)
    files = [recordings.dashwood()] * 5
    outcomes = list(transcribe_many(random_engine, files, TranscribeOptions(batch_size=4, **GREEDY)))
    assert len(outcomes) == 5
    assert not any(differences(outcome.result, outcomes[0].result) for outcome in outcomes)
    assert max(seen) == 4


def test_files_that_cannot_be_read_harm_no_other(random_engine):
    files = [recordings.empty(), recordings.dashwood(), recordings.no_sound_track()]
    outcomes = {outcome.path: outcome for outcome in transcribe_many(random_engine, files, TranscribeOptions(**GREEDY))}
    assert [outcomes[path].error is None for path in files] == [False, True, False]
    assert outcomes[files[1]].duration == pytest.approx(7.1, abs=0.1)


def test_nothing_to_do(random_engine):
    assert list(transcribe_many(random_engine, [], TranscribeOptions())) == []
    failed = list(transcribe_many(random_engine, [recordings.empty()], TranscribeOptions()))
    assert [outcome.error.error_class for outcome in failed] == ["BadAudio"]


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(random_engine, caplog):
    options = TranscribeOptions(initial_prompt="word " * 400, **GREEDY)
    transcribe(random_engine, recordings.dashwood(), options)
    assert "only its last" in caplog.text


def test_hotwords_that_are_too_long_are_cut_with_a_warning(random_engine, caplog):
    names = ", ".join(f"Digium{number}" for number in range(60))
    for mode in ("sequential", "batched"):
        caplog.clear()
        transcribe(random_engine, recordings.dashwood(), TranscribeOptions(hotwords=names, mode=mode, **GREEDY))
        assert "the hotwords are too long" in caplog.text
        assert "Digium59" in caplog.text
        assert "Digium0" not in caplog.text


def test_the_engine_works_on_while_the_next_file_is_on_its_way(random_engine):
    """There is room for it in the batch, but it only comes when the one before is finished."""
    finished = threading.Event()
    in_time = []

    def files():
        yield recordings.dashwood()
        in_time.append(finished.wait(60))
        yield recordings.dashwood()

    for _ in transcribe_many(random_engine, files(), TranscribeOptions(batch_size=4, **GREEDY)):
        finished.set()
    assert in_time == [True]
