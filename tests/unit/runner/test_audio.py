"""Any container, any rate, any damage."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.materials import recordings
from transcription_runner import errors
from transcription_runner.audio import SAMPLE_RATE, AudioFile


def write(
    path: Path, samples: np.ndarray, rate: int, *, codec: str = "pcm_s16le", layout: str = "mono", fmt: str = "s16"
) -> Path:
    """samples: (n,) or (n, channels)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format=fmt, layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path


def read(path: Path, *span: float) -> np.ndarray:
    blocks = list(AudioFile(path).blocks(*span))
    for (index, block), (following, _) in itertools.pairwise(blocks):
        assert index + len(block) == following
    return np.concatenate([block for _, block in blocks]) if blocks else np.zeros(0, np.int16)


def tone(seconds: float, rate: int) -> np.ndarray:
    return (np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate) * 10_000).astype(np.int16)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
def test_any_rate(tmp_path, rate):
    heard = read(write(tmp_path / "a.wav", tone(3, rate), rate))
    assert abs(len(heard) - 3 * SAMPLE_RATE) <= 2
    wanted = tone(3, SAMPLE_RATE)[: len(heard)].astype(int)
    assert np.abs(heard[1000:-1000] - wanted[1000 : len(heard) - 1000]).mean() < 100


def test_eight_channels(tmp_path):
    heard = read(write(tmp_path / "a.wav", np.repeat(tone(1, 16_000)[:, None], 8, axis=1), 16_000, layout="7.1"))
    assert len(heard) == SAMPLE_RATE
    assert 5_000 < np.abs(heard).max() <= 32_767


def test_a_tenth_of_a_second(tmp_path):
    assert len(read(write(tmp_path / "a.wav", tone(0.1, 16_000), 16_000))) == 1600


def test_samples_that_are_no_numbers_are_silence(tmp_path):
    samples = np.full(16_000, 0.25, np.float32)
    samples[100:200], samples[300], samples[400] = np.nan, np.inf, -np.inf
    heard = read(write(tmp_path / "a.wav", samples, 16_000, codec="pcm_f32le", fmt="flt"))
    assert len(heard) == 16_000
    assert not heard[100:200].any()
    assert abs(int(heard[1000]) - 8192) <= 1


@pytest.mark.parametrize("name", ["english", "stereo", "spanish", "french", "telephone", "video"])
def test_a_stretch_in_the_middle_is_what_the_whole_has_there(name):
    path = getattr(recordings, name)()
    whole = read(path)
    part = read(path, 9.0, 12.5)
    assert len(part) == round(3.5 * SAMPLE_RATE)
    there = whole[9 * SAMPLE_RATE : 9 * SAMPLE_RATE + len(part)].astype(float)
    # Lossy codecs may begin a few samples off; what is heard is the same.
    best = max(
        np.corrcoef(part[600:-600].astype(float), there[600 + shift : len(there) - 600 + shift])[0, 1]
        for shift in range(-500, 501, 1)
    )
    assert best > 0.99


def test_a_stretch_beyond_the_end_is_empty(dashwood):
    assert len(read(dashwood, 100.0, 110.0)) == 0


def test_the_length_is_known_from_the_header(dashwood):
    assert AudioFile(dashwood).duration == pytest.approx(7.1, abs=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_audio", "neither audio nor video"),
        ("not_audio_mp3", "."),
        ("empty", "0 bytes"),
        ("no_sound_track", "no sound in it"),
    ],
)
def test_what_is_no_audio_is_told(name, message):
    with pytest.raises(errors.BadAudio, match=message) as caught:
        read(getattr(recordings, name)())
    assert caught.value.exit_code == 65


def test_a_text_is_no_audio(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Not a sound.\n" * 100)
    with pytest.raises(errors.BadAudio):
        read(path)


def test_what_is_there_of_a_file_cut_short_is_heard(tmp_path, dashwood):
    path = tmp_path / "cut.wav"
    path.write_bytes(dashwood.read_bytes()[:100_001])
    assert 2.9 < len(read(path)) / SAMPLE_RATE < 3.2


def test_a_file_that_is_read_from_its_beginning_is_opened_once(monkeypatch):
    """And it is closed then: reading it again opens it anew."""
    containers = []
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *args, **how: containers.append(opened(*args, **how)) or containers[-1])
    file = AudioFile(recordings.dashwood())
    first = [samples for _, samples in file.blocks()]
    assert len(containers) == 1
    again = [samples for _, samples in file.blocks()]
    assert len(containers) == 2
    assert np.array_equal(np.concatenate(first), np.concatenate(again))
    with pytest.raises(AssertionError, match="Container is not open"):
        containers[0].seek(0)


def test_a_file_that_is_not_read_is_closed(monkeypatch):
    containers = []
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *args, **how: containers.append(opened(*args, **how)) or containers[-1])
    AudioFile(recordings.dashwood()).close()
    (container,) = containers
    with pytest.raises(AssertionError, match="Container is not open"):
        container.seek(0)


def test_a_file_cut_short_before_its_index_says_so():
    with pytest.raises(errors.BadAudio) as caught:
        read(recordings.cut_short())  # an m4a has its index at its end
    assert "complete" in (caught.value.hint or "")


def test_a_damaged_file_is_heard_around_the_damage():
    assert len(read(recordings.damaged())) > SAMPLE_RATE


def test_no_file_and_no_permission(tmp_path):
    with pytest.raises(errors.SourceMissing):
        AudioFile(tmp_path / "none.wav")
    with pytest.raises(errors.BadAudio, match="folder"):
        AudioFile(tmp_path)


def test_options_and_languages_import_nothing_heavy():
    heavy = ("torch", "av", "numpy", "transformers")
    modules = "transcription_runner.options, transcription_runner.languages"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("recording", [recordings.english, recordings.spanish, recordings.stereo, recordings.telephone])
def test_gathering_frames_changes_no_sample(recording):
    """Each frame resampled on its own, as PyAV hands them out, gives the same."""
    parts = []
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(recording())) as container:
        for frame in itertools.chain(container.decode(audio=0), [None]):
            if frame is not None:
                frame.pts = None
            parts += [out.to_ndarray().reshape(-1) for out in resampler.resample(frame)]
    assert np.array_equal(read(recording()), np.concatenate(parts))
