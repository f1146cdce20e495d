"""The parts that must give openai-whisper's and Silero's numbers."""

from __future__ import annotations

import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.differential.hearing import samples
from tests.materials import recordings
from transcription_runner.alignment import warp
from transcription_runner.audio import AudioFile
from transcription_runner.mel import LogMel, mel_filters
from transcription_runner.options import VadOptions
from transcription_runner.recording import Recording, Room
from transcription_runner.vad import SpeechDetector, breath, quietest, speech_spans
from transcription_runner.windows import Cut

whisper = pytest.importorskip("whisper")


def features(recording, cut, bands=80):
    """The log-mel of a cut."""
    return LogMel(bands).windows([recording.sound(cut)])[0]


@pytest.mark.parametrize("bands", [80, 128])
def test_the_filters(bands):
    theirs = whisper.audio.mel_filters("cpu", bands).numpy()
    assert np.abs(mel_filters(bands) - theirs).max() < 1e-7


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("bands", [80, 128])
def test_the_spectrogram_of_every_window(kept, bands):
    path = recordings.english()
    whole = whisper.log_mel_spectrogram(samples(path), bands, padding=480_000)
    recording = Recording(AudioFile(path), LogMel(bands), Room(600, 600 if kept else 0))
    recording.scan(((0.0, None),))
    assert recording.is_kept == kept
    frames = whole.shape[1] - 3000
    assert recording.frames == frames
    for start in (0, 1, 777, 2990, frames - 50):
        size = min(3000, frames - start)
        theirs = whisper.pad_or_trim(whole[:, start : start + size], 3000)
        assert (features(recording, Cut(((start, start + size),)), bands) - theirs).abs().max() < 2e-5
    theirs = whole[:, frames - 1000 : frames + 2000]
    assert (features(recording, Cut(((frames - 1000, frames + 2000),)), bands) - theirs).abs().max() < 2e-5


@pytest.mark.parametrize("length", [1, 100, 199, 200, 201, 399, 1600])
def test_the_spectrogram_of_almost_nothing(tmp_path, length):
    from tests.unit.runner.test_audio import tone, write

    path = write(tmp_path / "a.wav", tone(1, 16_000)[1 : length + 1], 16_000)
    whole = whisper.log_mel_spectrogram(samples(path), 80, padding=480_000)
    recording = Recording(AudioFile(path), LogMel(80))
    recording.scan(((0.0, None),))
    assert (features(recording, Cut(((0, 3000),))) - whole[:, :3000]).abs().max() < 2e-5


def test_windows_of_a_batch_are_what_they_are_alone():
    recording = Recording(AudioFile(recordings.english()), LogMel(80))
    recording.scan(((0.0, None),))
    cuts = [Cut(((0, 3000),)), Cut(((5, 9), (500, 502), (900, 1777))), Cut(((20, 21),))]
    together = LogMel(80).windows([recording.sound(cut) for cut in cuts])
    for found, cut in zip(together, cuts, strict=True):
        assert (found - features(recording, cut)).abs().max() < 1e-6
        assert not found[:, cut.size :].any()


def test_pieces_are_laid_end_to_end():
    recording = Recording(AudioFile(recordings.english()), LogMel(80))
    recording.scan(((0.0, None),))
    joined = features(recording, Cut(((100, 300), (900, 1000))))
    assert torch.equal(joined[:, :200], features(recording, Cut(((100, 300),)))[:, :200])
    assert torch.equal(joined[:, 200:300], features(recording, Cut(((900, 1000),)))[:, :100])
    assert not joined[:, 300:].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_path_through_a_matrix(rows, columns, seed):
    timing = pytest.importorskip("whisper.timing")
    cost = np.random.default_rng(seed).integers(-3, 3, (rows, columns)).astype(np.float64)
    theirs = timing.dtw_cpu(cost)
    ours = warp(cost)
    assert ours[0].tolist() == theirs[0].tolist()
    assert ours[1].tolist() == theirs[1].tolist()


@pytest.fixture(scope="module")
def silero():
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("silero_vad")  # importing it sets one thread
        model = package.load_silero_vad()
    torch.set_num_threads(threads)
    return package, model


def listened(sound: np.ndarray, *blocks: int, beside: bool = False) -> SpeechDetector:
    ear = SpeechDetector(beside=beside)
    places = [0, *blocks, len(sound)]
    for first, last in itertools.pairwise(places):
        ear.add(first, sound[first:last])
    ear.finish()
    ear.close()
    return ear


def test_the_probabilities_are_silero_s_however_the_stream_is_cut(silero):
    _, model = silero
    path = recordings.with_long_pauses()
    sound = np.concatenate([block for _, block in AudioFile(path).blocks(25, 60)])
    model.reset_states()
    floats = torch.from_numpy(sound.astype(np.float32) / 32768)
    theirs = [model(torch.nn.functional.pad(part, (0, 512 - len(part))), 16_000).item() for part in floats.split(512)]
    for blocks in ((), (1000, 100_000, 100_100)):
        ((start, ours),) = listened(sound, *blocks).stretches
        assert start == 0
        assert np.abs(ours - np.array(theirs)).max() < 1e-4


def test_a_thread_beside_changes_no_probability_and_ends():
    sound = np.concatenate([block for _, block in AudioFile(recordings.english()).blocks()])
    blocks = [16_000 * second for second in range(1, 60)]
    alone, beside = (listened(sound, *blocks, beside=each).stretches for each in (False, True))
    assert np.array_equal(alone[0][1], beside[0][1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vad")]


def test_a_jump_in_a_recording_begins_anew_in_the_thread_beside_too():
    sound = np.concatenate([block for _, block in AudioFile(recordings.english()).blocks()])[: 20 * 16_000]
    ear = SpeechDetector(beside=True)
    for start in (0, 30 * 16_000):
        for second in range(20):
            ear.add(start + second * 16_000, sound[second * 16_000 : (second + 1) * 16_000])
    ear.finish()
    ear.close()
    (_, first), (start, second) = ear.stretches
    assert start == 30 * 16_000
    assert np.array_equal(first, second)


def test_the_spans_are_silero_s(silero):
    package, model = silero
    sound = np.concatenate([block for _, block in AudioFile(recordings.english()).blocks()])
    options = VadOptions()
    theirs = package.get_speech_timestamps(
        torch.from_numpy(sound.astype(np.float32) / 32768),
        model,
        threshold=options.threshold,
        min_silence_duration_ms=options.min_silence_duration_ms,
        min_speech_duration_ms=options.min_speech_duration_ms,
        speech_pad_ms=options.speech_pad_ms,
    )
    ours = speech_spans(listened(sound).stretches, options, len(sound))
    assert len(ours) == len(theirs) > 3
    for (start, end), span in zip(ours, theirs, strict=True):
        assert abs(start / 100 - span["start"] / 16_000) < 0.02
        assert abs(end / 100 - span["end"] / 16_000) < 0.02


def test_no_speech_in_silence_noise_and_a_click():
    rng = np.random.default_rng(0)
    sounds = [np.zeros(160_000, np.int16), rng.normal(0, 500, 160_000).astype(np.int16)]
    sounds.append(np.where(np.arange(160_000) == 80_000, 20_000, 0).astype(np.int16))
    for sound in sounds:
        assert speech_spans(listened(sound).stretches, VadOptions(), len(sound)) == []


def test_the_quietest_moment():
    values = np.ones(1000, np.float32)
    values[600:606] = 0.1
    assert abs(quietest([(0, values)], 1000, 3000) - 603 * 512 / 160) < 5
    assert quietest([], 10, 20) == 20


def test_the_longest_pause_is_where_one_may_cut():
    values = np.ones(1000, np.float32)
    values[400:404] = values[500:505] = values[600:610] = 0.1
    found = [breath([(0, values)], VadOptions(), *between) for between in ((1000, 3000), (1000, 1900), (1000, 1600))]
    assert found == [round(605 * 512 / 160), round(502.5 * 512 / 160), None], "four moments are none"
    assert breath([], VadOptions(), 10, 20) is None
