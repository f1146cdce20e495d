"""Real weights, people's speech: what ours says. That it is what openai-whisper says: test_differential.py."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from tests.differential.comparing import differences
from tests.materials import recordings, speech, wer
from tests.materials.plans import Pause, Plan, Say
from transcription_runner import errors
from transcription_runner.options import TranscribeOptions, VadOptions
from transcription_runner.transcribe import transcribe, transcribe_many

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0}


def test_many_files_at_once_say_what_they_say_alone(tiny_en):
    files = [recordings.dashwood(), recordings.telephone(), recordings.not_audio(), recordings.video()]
    options = TranscribeOptions(**GREEDY)
    together = {outcome.path: outcome for outcome in transcribe_many(tiny_en, files, options)}
    assert set(together) == set(files)
    assert isinstance(together[recordings.not_audio()].error, errors.BadAudio)
    for path in files:
        if path == recordings.not_audio():
            continue
        alone = transcribe(tiny_en, path, options)
        result = together[path].result
        assert differences(result, alone).found == []


def test_batched_mode_hears_every_sentence(tiny_en):
    said = recordings.transcript(recordings.english())
    result = transcribe(
        tiny_en, recordings.english(), TranscribeOptions(mode="batched", word_timestamps=True, **GREEDY)
    )
    assert wer.word_error_rate(said.text, result["text"]) < 0.1
    words = [word for segment in result["segments"] for word in segment["words"]]
    assert all(0 <= word["start"] <= word["end"] for word in words)
    for before, after in itertools.pairwise(words):
        assert before["start"] <= after["start"] + 1e-9


def test_batched_mode_says_the_same_in_any_batch(tiny_en):
    texts = [
        transcribe(tiny_en, recordings.english(), TranscribeOptions(mode="batched", batch_size=size, **GREEDY))
        for size in (1, 8)
    ]
    assert differences(*texts).found == []


def test_batched_mode_has_nothing_to_say_about_silence_and_noise(base):
    for path in (recordings.silence(), recordings.noise()):
        result = transcribe(base, path, TranscribeOptions(mode="batched"))
        assert result["text"] == ""
        assert result["segments"] == []


def test_without_vad_batched_mode_hears_as_much(tiny_en):
    said = recordings.transcript(recordings.english())
    options = TranscribeOptions(mode="batched", vad=VadOptions(enabled=False), **GREEDY)
    assert wer.word_error_rate(said.text, transcribe(tiny_en, recordings.english(), options)["text"]) < 0.2


@pytest.fixture(scope="module")
def names():
    """A sentence, and half a minute later, in windows of their own, one with a name that base misspells, twice."""
    thanks = (Pause(28), Say("en/demo-thanks"))
    return recordings.made("names.wav", Plan((Say(speech.dashwood().name), *thanks, *thanks)))


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_hotwords_set_a_name_right_in_every_window(base, names, mode):
    options = {"mode": mode, "language": "en", **GREEDY}
    without = transcribe(base, names, TranscribeOptions(**options))["text"]
    assert without.count("Astorisk") == 2
    told = transcribe(base, names, TranscribeOptions(hotwords="Asterisk, Digium", **options))["text"]
    assert (told.count("Asterisk"), told.count("Astorisk"), told.count("Digium")) == (2, 0, 0)


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_a_prompt_changes_the_spelling(base, mode):
    options = {"mode": mode, "language": "en", "initial_prompt": "Mr. Jon Dashwoode speaks.", **GREEDY}
    text = transcribe(base, recordings.dashwood(), TranscribeOptions(**options))["text"]
    assert text.startswith(" And Mr. Jon Dashwoode had then leisure")


def test_the_language_is_one_of_those_allowed(base):
    result = transcribe(base, recordings.dashwood(), TranscribeOptions(languages=("fr", "es"), **GREEDY))
    assert result["language"] in ("fr", "es")


def test_progress_goes_forward_to_the_end(tiny_en):
    seen = []
    transcribe(tiny_en, recordings.english(), TranscribeOptions(**GREEDY), on_progress=seen.append)
    done = [progress.processed_seconds for progress in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total_seconds > 30
    assert seen[-1].speed > 0


def test_the_result_is_plain_json(tiny_en):
    result = transcribe(tiny_en, recordings.dashwood(), TranscribeOptions(word_timestamps=True, **GREEDY))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert sorted(result) == ["language", "segments", "text"]
    assert all(type(value) in (int, float, str, list) for value in result["segments"][0].values())
    assert all(math.isfinite(word["probability"]) for word in result["segments"][0]["words"])


def test_a_tenth_of_a_second(tiny_en, tmp_path):
    from tests.unit.runner.test_audio import tone, write

    path = write(tmp_path / "a.wav", tone(0.1, 16_000), 16_000)
    for mode in ("sequential", "batched"):
        assert isinstance(transcribe(tiny_en, path, TranscribeOptions(mode=mode, **GREEDY))["text"], str)


def test_each_window_s_language_is_detected_where_people_change_it(base):
    options = TranscribeOptions(mode="batched", multilingual=True, languages=("en", "fr", "es"), **GREEDY)
    result = transcribe(base, recordings.two_languages(), options)
    one = transcribe(base, recordings.two_languages(), TranscribeOptions(mode="batched", **GREEDY))
    assert len({segment["language"] for segment in result["segments"]}) == 2
    assert "language" not in one["segments"][0]
    said = recordings.transcript(recordings.two_languages()).text
    assert wer.word_error_rate(said, result["text"]) < wer.word_error_rate(said, one["text"])
