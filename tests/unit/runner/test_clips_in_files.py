"""Clips in long files: the same samples as in the whole, and little else read or decoded."""

from __future__ import annotations

import gc
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.materials import cache, recordings, speech
from tests.materials.plans import conversation
from transcription_runner import audio
from transcription_runner.audio import SAMPLE_RATE, AudioFile
from transcription_runner.mel import LogMel
from transcription_runner.recording import Recording

MINUTES = 10

#: Containers and codecs, and how far a clip may be off: milliseconds. Matroska's own clock has no more.
FORMS: dict[str, tuple[dict, float]] = {
    "wav": ({}, 0),
    "flac": ({}, 0),
    "ogg": ({"rate": 48000}, 0),
    "m4a": ({"rate": 44100}, 0),
    "aac": ({}, 0),
    "wma": ({"rate": 44100}, 2),
    "mp4": ({"rate": 44100, "channels": 2, "video": True}, 0),
    "mkv": ({"video": True}, 1),
    "webm": ({"rate": 48000}, 1),
}
MP3S = {
    "constant": (False, True),
    "constant, no header": (False, False),
    "variable": (True, True),
    "bare": (True, False),
}


def long(suffix: str) -> Path:
    return recordings.made(f"english_{MINUTES}min.{suffix}", conversation("en", MINUTES), **FORMS[suffix][0])


def mp3(kind: str) -> Path:
    """mp3 of a constant or a variable bit rate, with or without the header that tells of it."""
    variable, header = MP3S[kind]

    def build(path: Path) -> None:
        with av.open(str(path), "w", format="mp3", options={"write_xing": str(int(header))}) as out:
            stream = out.add_stream("libmp3lame", rate=speech.RATE, layout="mono")
            if variable:
                stream.codec_context.flags |= av.codec.context.Flags.qscale
                stream.codec_context.global_quality = 4 * 118
            else:
                stream.bit_rate = 48_000
            done = 0
            for block in conversation("en", MINUTES).blocks():
                samples = (np.clip(block, -1, 1) * 32767).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = speech.RATE, done, Fraction(1, speech.RATE)
                out.mux(stream.encode(frame))
                done += samples.shape[1]
            out.mux(stream.encode(None))

    name = f"english_{MINUTES}min-{'vbr' if variable else 'cbr'}{'' if header else '-bare'}.mp3"
    return cache.build_once(cache.materials() / "recordings" / "clips" / name, build)


def samples(path: Path, *span: float) -> np.ndarray:
    return np.concatenate([block for _, block in AudioFile(path).blocks(*span)])


def lag(part: np.ndarray, whole: np.ndarray, start: int, most: int = 4000) -> int:
    """By how many samples a part lies later in the whole than at `start`."""
    around = whole[start - most : start + len(part) + most].astype(float)
    size = len(around) + len(part)
    product = np.fft.rfft(around, size) * np.conj(np.fft.rfft(part.astype(float), size))
    return int(np.argmax(np.fft.irfft(product, size)[: 2 * most + 1])) - most


def check(path: Path, tolerance: float) -> None:
    whole = samples(path)
    assert len(whole) / SAMPLE_RATE == pytest.approx(MINUTES * 60, abs=0.15)
    for start in (2.5, 60.0, 301.007, 580.3):
        part = samples(path, start, start + 8)
        assert len(part) == 8 * SAMPLE_RATE
        assert abs(lag(part, whole, round(start * SAMPLE_RATE))) <= tolerance * SAMPLE_RATE / 1000


@pytest.mark.parametrize("suffix", FORMS)
def test_a_clip_is_where_it_is_in_the_whole(suffix):
    check(long(suffix), FORMS[suffix][1])


@pytest.mark.parametrize("kind", MP3S)
def test_a_clip_of_an_mp3_is_where_it_is_in_the_whole(kind):
    check(mp3(kind), 0)


def bytes_read() -> int:
    """What this process has read from files, as the kernel counts it."""
    text = Path("/proc/self/io").read_text()
    return int(dict(line.split(": ") for line in text.splitlines())["rchar"])


def cost(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """What three clips of 5 s cost: seconds decoded, and the share of the file that is read."""
    decoded = 0.0
    frames = audio._frames

    def counted(container, stream):
        nonlocal decoded
        for frame in frames(container, stream):
            decoded += frame.samples / frame.sample_rate
            yield frame

    monkeypatch.setattr(audio, "_frames", counted)
    recording = Recording(AudioFile(path), LogMel(80))
    before = bytes_read()
    recording.scan([(60.0, 65.0), (300.0, 305.0), (590.0, 595.0)])
    assert recording.frames == pytest.approx(59_505, abs=6)
    return decoded, (bytes_read() - before) / path.stat().st_size


@pytest.mark.parametrize("suffix", FORMS)
def test_only_what_is_in_the_clips_is_read_and_decoded(suffix, monkeypatch):
    decoded, share = cost(long(suffix), monkeypatch)
    assert 15 < decoded < 40  # a run-up for each, and what a container's index is coarser than
    assert share < {"aac": 1.2, "ogg": 0.5}.get(suffix, 0.3)  # aac has no index; ogg is searched by halves


@pytest.mark.parametrize("kind", MP3S)
def test_only_what_is_in_the_clips_of_an_mp3_is_decoded(kind, monkeypatch):
    """An mp3 has no exact index: the packets before a clip are read and counted, once, and not decoded."""
    decoded, share = cost(mp3(kind), monkeypatch)
    assert 15 < decoded < 30
    assert share < 1.2


@pytest.mark.parametrize("kind", ["constant, no header", "bare", "aac"])
def test_however_many_clips_a_file_without_an_index_is_read_once(kind):
    path = long("aac") if kind == "aac" else mp3(kind)
    whole = samples(path)
    before = bytes_read()
    file = AudioFile(path)
    for start in range(20, 590, 30):
        part = np.concatenate([block for _, block in file.blocks(start, start + 2)])
        assert lag(part, whole, start * SAMPLE_RATE) == 0
    assert bytes_read() - before < 1.2 * path.stat().st_size


def open_files(path: Path) -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(link.exists() and link.samefile(path) for link in links)


def test_a_file_is_let_go_of():
    path = mp3("bare")
    gc.collect()  # other tests' files
    recording = Recording(AudioFile(path), LogMel(80))
    recording.scan([(60.0, 65.0), (300.0, 305.0)])
    recording.close()
    assert open_files(path) == 0


def test_two_readers_of_one_file_do_not_disturb_each_other():
    file = AudioFile(long("m4a"))
    whole = samples(long("m4a"))
    readers = [file.blocks(start, start + 70) for start in (100, 300)]
    for blocks in zip(*readers, strict=True):
        for index, block in blocks:
            assert lag(block[: 8 * SAMPLE_RATE], whole, index) == 0


def test_hours_that_a_clip_does_not_touch_cost_nothing(tmp_path, monkeypatch):
    """A sparse file of 11 hours, its last seconds a recording: 1.3 GB by its length."""
    path = tmp_path / "hours.wav"
    sound = samples(long("wav"), 0.0, 10.0).tobytes()
    hours = 11 * 3600 * SAMPLE_RATE * 2
    with path.open("wb") as out:
        import struct

        out.write(struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + hours, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16))
        out.write(struct.pack("<4sI", b"data", hours))
        out.seek(44 + hours - len(sound))
        out.write(sound)
    before = bytes_read()
    start = 11 * 3600 - 10
    part = samples(path, start, start + 10)
    assert part.tobytes() == sound
    assert bytes_read() - before < 2_000_000


def test_clips_are_read_once_and_in_order(monkeypatch):
    seen = []
    blocks = AudioFile.blocks

    def watched(self, start=0.0, end=None):
        seen.append((start, end))
        return blocks(self, start, end)

    monkeypatch.setattr(AudioFile, "blocks", watched)
    recording = Recording(AudioFile(long("mp4")), LogMel(80))
    recording.scan([(10.0, 20.0), (30.0, 31.0)])
    assert [round(end - start, 1) for start, end in seen] == [10.1, 1.1]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(seen))
