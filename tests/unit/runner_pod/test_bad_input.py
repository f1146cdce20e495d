"""What people give to the command by mistake: each with its message and exit code, and nothing is lost.

The command itself, on a small model of random weights; what it is given is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.materials import recordings, tiny_random
from tests.unit.runner_pod.conftest import Ran
from transcription_runner import arguments, cli

QUICK = (
    *("--temperature_increment_on_fallback", "None", "--beam_size", "None", "--language", "en", "-f", "json"),
    *("--verbose", "False"),
)


@pytest.fixture
def hear(run, tmp_path):
    """The command on some audio, in a folder of its own: how it ended, and whisper's JSON where there is one."""

    def call(*words: object, out: Path = tmp_path / "out") -> tuple[Ran, dict]:
        done = run(*words, *QUICK, "-o", out, "--model", tiny_random.tiny_random(), model=False)
        written = Path(done.receipt["result"]["path"]) if done.code == 0 else None
        return done, json.loads(written.read_text()) if written else {}

    return call


def sound(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """samples: (n, channels), 16 bit."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return path


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    wave_ = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate) * 10_000
    return np.repeat(wave_[:, None], channels, axis=1)


# Audio that is none


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_sound_track", "no sound in it"),
        ("empty", "empty (0 bytes)"),
        ("not_audio", "neither audio nor video"),
        ("not_audio_mp3", "page.mp3"),
        ("cut_short", "cut_short.m4a"),
    ],
)
def test_what_cannot_be_heard(hear, name, said):
    done, found = hear(getattr(recordings, name)())
    assert done.code == 65
    assert done.receipt["error"]["class"] == "BadAudio"
    assert said in done.receipt["error"]["message"]
    assert "Traceback" not in done.err
    assert found == {}


def test_a_header_and_nothing_after_it(hear, tmp_path):
    done, _ = hear(sound(tmp_path / "a.wav", tone(0)))
    assert done.code == 65, done.err


@pytest.mark.parametrize("what", ["folder", "gone", "beneath a file", "a name too long"])
def test_what_is_no_file(hear, tmp_path, what):
    (tmp_path / "file").write_bytes(b"")
    path = {
        "folder": tmp_path,
        "gone": tmp_path / "gone.mp3",
        "beneath a file": tmp_path / "file" / "a.mp3",
        "a name too long": tmp_path / ("a" * 300),
    }[what]
    done, _ = hear(path)
    assert done.code == 66
    assert str(path) in done.err
    assert "folder, not an audio file" in done.err if what == "folder" else "There is no file" in done.err


# Audio that is odd, and is heard all the same


@pytest.mark.parametrize(
    ("rate", "channels"), [(8_000, 1), (192_000, 1), (16_000, 8), (48_000, 8)], ids=lambda value: str(value)
)
def test_any_rate_and_any_number_of_channels(hear, tmp_path, rate, channels):
    done, found = hear(sound(tmp_path / "a.wav", tone(1, rate, channels), rate))
    assert done.code == 0, done.err
    assert done.receipt["duration"] == pytest.approx(1.0, abs=0.01)
    assert all(0 <= segment["start"] <= segment["end"] <= 30 for segment in found["segments"])


@pytest.mark.parametrize("seconds", [0.1, 0.01, 1 / 16_000])
def test_next_to_nothing(hear, tmp_path, seconds):
    done, found = hear(sound(tmp_path / "a.wav", tone(seconds)))
    assert done.code == 0, done.err
    assert found["language"] == "en"
    assert done.receipt["duration"] == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(hear, tmp_path, value):
    import av

    path = tmp_path / "a.wav"
    samples = np.full((1, 16_000), value, np.float32)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    done, found = hear(path)
    assert done.code == 0, done.err
    assert all(np.isfinite(segment["avg_logprob"]) for segment in found["segments"])


def test_a_file_that_claims_to_be_longer_than_it_is(hear, tmp_path):
    """A recorder that lost its power leaves such headers: 4 GB by its own word, and one second of sound."""
    path = sound(tmp_path / "a.wav", tone(1))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xfe"
    path.write_bytes(data)
    done, _ = hear(path)
    assert done.code == 0, done.err
    assert done.receipt["duration"] == pytest.approx(1.0, abs=0.01)


def test_a_file_that_breaks_off_in_a_packet(hear, tmp_path):
    whole = recordings.english().read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 10 + 7])
    done, _ = hear(tmp_path / "a.mp3", "--clip_timestamps", "0,1")
    assert done.code == 0, done.err


@pytest.mark.parametrize("clips", ["100", "7.2,9", "7.05", "0,0.001", "0.5,1,3600,7200"])
def test_odd_clips(hear, clips):
    """Beyond the end of 7.1 s, at the end, of next to no length."""
    done, found = hear(recordings.dashwood(), "--clip_timestamps", clips)
    assert done.code == 0, done.err
    assert all(segment["start"] <= segment["end"] for segment in found["segments"])
    assert all(segment["seek"] <= 710 for segment in found["segments"])


# Options


WRONG = {
    "--temperature": ("-1", "11", "nan", "inf"),
    "--best_of": ("0", "-1", "65"),
    "--beam_size": ("0", "-1", "65"),
    "--patience": ("0", "-1", "nan", "0.01"),
    "--length_penalty": ("-0.1", "1.1", "nan"),
    "--suppress_tokens": ("a", "1,,2", "-2"),
    "--compression_ratio_threshold": ("nan", "inf"),
    "--logprob_threshold": ("nan", "-inf"),
    "--no_speech_threshold": ("nan",),
    "--temperature_increment_on_fallback": ("-0.2", "nan", "inf", "1e-9"),
    "--hallucination_silence_threshold": ("-1", "nan"),
    "--clip_timestamps": ("a", "-1", "nan", "0,inf", "5,1", "1,1", "0,5,3,8", "1,,2", "0,1,0.5"),
    "--threads": ("-1", "100000"),
    "--num_workers": ("0", "-1", "65"),
    "--compute_type": ("int4", "", "FLOAT32"),
    "--batch_size": ("0", "-1", "5000"),
    "--max_line_width": ("-1",),
    "--max_line_count": ("-1",),
    "--max_words_per_line": ("-1",),
    "--vad_threshold": ("0", "1", "nan"),
    "--vad_min_silence_duration_ms": ("-1", "60001"),
    "--vad_min_speech_duration_ms": ("-1", "60001"),
    "--vad_speech_pad_ms": ("-1", "60001"),
    "--hotwords": ("x" * 1025,),
    "--language": ("", "klingon", "english french"),
    "--languages": ("xx", "en,xx"),
    "--task": ("summarize",),
    "--mode": ("fast",),
    "--engine": ("whisper.cpp",),
    "--device": ("tpu", ""),
    "--model": ("", "nosuch", "a/b/c", "owner/.."),
    "--adapter": ("", "nosuch"),
    "--output": ("nosuch://bucket/",),
    "--output_format": ("doc", ",", "json,doc"),
    "--output_name": ("", "a/b", "..", "."),
}
FREE = {  # any text means something
    *("--help", "--version", "--no_vad", "--output_dir", "--initial_prompt", "--model_dir", "--prepend_punctuations"),
    "--append_punctuations",
}
CONTRADICTIONS = {
    "language en is not among languages fr, de": ("--language", "en", "--languages", "fr,de"),
    "patience needs beam_size": ("--patience", "2", "--beam_size", "None"),
    "hallucination_silence_threshold needs word_timestamps": ("--hallucination_silence_threshold", "2"),
    "--max_line_width needs --word_timestamps True": ("--max_line_width", "40"),
    "--highlight_words needs --word_timestamps True": ("--highlight_words", "True"),
    "has no batched mode": ("--engine", "openai-whisper", "--mode", "batched"),
    "knows no hotwords": ("--engine", "openai-whisper", "--hotwords", "Digium"),
    "cannot choose among languages": ("--engine", "openai-whisper", "--languages", "en,fr"),
}


def refused(run, *words: str) -> str:
    done = run(recordings.dashwood(), *words, "--model", tiny_random.tiny_random(), model=False)
    assert done.code == 64, done.err
    assert done.receipt["error"]["class"] == "Usage"
    assert "Traceback" not in done.err
    message: str = done.receipt["error"]["message"]
    return message


CASES = [(option, value) for option, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("option", "value"), CASES, ids=lambda value: value[:40] or "nothing")
def test_a_value_that_means_nothing(run, option, value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    extra = ("--word_timestamps", "True", "--beam_size", "5")
    words = [recordings.dashwood(), *extra, f"{option}={value}"]
    done = run(*words, *(() if option == "--model" else ("--model", tiny_random.tiny_random())), model=False)
    assert done.code == 64, done.err
    assert option.removeprefix("--") in done.err or value.rpartition(",")[2] in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.glob("*.json")) == []


def test_every_option_is_among_these():
    parser = arguments.transcription_parser({})
    flags = {name for name in parser.options if isinstance(parser._option_string_actions[name].default, bool)}
    flags |= {"--verbose"}
    assert set(parser.options) - flags - FREE == set(WRONG)


def test_what_is_no_number_or_truth(run):
    parser = arguments.transcription_parser({})
    for name in parser.options:
        action = parser._option_string_actions[name]
        if action.type in (int, float, arguments.flag, arguments.optional_int, arguments.optional_float):
            with pytest.raises(arguments.Usage, match=name):
                parser.parse_args(["a.mp3", f"{name}=many"])


@pytest.mark.parametrize("said", CONTRADICTIONS)
def test_options_that_contradict_one_another(run, said):
    assert said in refused(run, *CONTRADICTIONS[said])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("owner/nosuch", "owner/nosuch is not in"),
        ("large-v3", "openai/whisper-large-v3 is not in"),
        ("/nosuch", "There is no model at /nosuch"),
        (".", "holds no model"),
    ],
)
def test_a_model_that_is_not_there(run, model, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(recordings.dashwood(), "--model", model, "--model_dir", tmp_path / "models", model=False)
    assert done.code == 66
    assert said in done.err


# Where it may not read or write


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_no_space_for_the_transcript(hear, tmp_path):
    """A volume that takes the probe and not the transcript: 4 KB."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4k", "tmpfs") as small:
        done, _ = hear(recordings.dashwood(), "--word_timestamps", "True", out=small)
        assert done.code == 74
        assert "No space left" in done.receipt["error"]["message"]
        assert "bytes are free on its volume" in done.receipt["error"]["message"]
        assert list(small.iterdir()) == [], "neither half a transcript nor a temporary file"


def test_no_space_at_all_is_told_before_the_work(run, listener, tmp_path):
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=4k", "tmpfs") as full:
        (full / "other").write_bytes(bytes(4096))
        done = run(recordings.dashwood(), "-o", full)
        assert done.code == 74
        assert "No space left" in done.err
        assert listener.loaded == 0


def test_a_read_only_volume(run, listener, tmp_path):
    with mounted(tmp_path / "fixed", "-t", "tmpfs", "-o", "ro", "tmpfs") as fixed:
        done = run(recordings.dashwood(), "-o", fixed / "transcripts")
        assert done.code == 74
        assert "Read-only file system" in done.err
        assert listener.loaded == 0


def as_nobody(*words: object, log: Path) -> tuple[int, str]:
    """The command as a user who is not root, in a process that is forked off this one: root may read everything."""
    child = os.fork()
    if child == 0:
        code = 99
        with contextlib.suppress(BaseException):
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o644)
            os.dup2(descriptor, 2)
            os.setgid(65534)
            os.setuid(65534)
            code = cli.main([str(word) for word in words])
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write to; those of pytest are root's alone."""
    folder = Path("/tmp") / f"transcription-bad-input-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read(shared, capfd):
    secret = sound(shared / "secret.wav", tone(1))
    secret.chmod(0o600)
    with capfd.disabled():
        code, said = as_nobody(secret, "-o", shared / "out", log=shared / "log")
    assert code == 77, said
    assert f"reading {secret}" in said
    assert "belongs to uid 0, gid 0, mode 600" in said
    assert "runs as uid 65534" in said


def test_a_folder_that_may_not_be_written(shared, capfd):
    audio = sound(shared / "a.wav", tone(1))
    audio.chmod(0o644)
    (shared / "out").mkdir(0o755)
    with capfd.disabled():
        code, said = as_nobody(audio, "-o", shared / "out", log=shared / "log")
    assert code == 77, said
    assert f"writing to {shared / 'out'}" in said
    assert "chown 65534" in said


# Nothing is lost


def test_a_recording_is_not_overwritten_by_its_transcript(run, tmp_path, monkeypatch):
    """A container by any name is heard: this one is called as its transcript would be."""
    path = tmp_path / "talk.json"
    shutil.copyfile(recordings.dashwood(), path)
    before = path.read_bytes()
    for words in (("talk.json", "-o", "."), (path, "-o", tmp_path), ("./talk.json", recordings.english(), "-o", ".")):
        monkeypatch.chdir(tmp_path)
        done = run(*words, "--model", tiny_random.tiny_random(), model=False)
        assert done.code == 64
        assert "would overwrite it" in done.err
        assert path.read_bytes() == before


def test_nor_by_that_of_another(hear, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "a.wav", tone(0.5))
    sound(tmp_path / "b.wav", tone(0.5)).rename(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    done, _ = hear("a.wav", out=tmp_path / "out")
    assert done.code == 0
    done, _ = hear("a.wav", "a.json", out=Path())
    assert done.code == 0, done.err
    assert (tmp_path / "a.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.json", "a.json.json", "a.wav", "a.wav.json"]
