"""Recordings: their words and times are what the plan says, in every container."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from tests.materials import recordings, sounds, speech
from tests.materials.plans import Background, Pause, Plan, Say, Sound, conversation
from tests.materials.words import CLEAR, CORRECTED

SENTENCE = speech.dashwood().name


def decoded(path: Path) -> tuple[np.ndarray, int, int]:
    """The first channel, the rate and the number of channels of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), stream.rate, stream.channels


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.wav", {}),
        ("a.wav", {"rate": 8000, "codec": "pcm_mulaw"}),
        ("a.wav", {"rate": 96000, "channels": 2, "codec": "pcm_s24le"}),
        ("a.mp3", {}),
        ("a.mp3", {"rate": 44100, "channels": 2}),
        ("a.flac", {"rate": 48000, "channels": 6}),
        ("a.ogg", {"rate": 48000}),
        ("a.opus", {}),
        ("a.webm", {"rate": 48000}),
        ("a.m4a", {"rate": 44100, "channels": 2}),
        ("a.aac", {}),
        ("a.wma", {"rate": 44100}),
        ("a.ac3", {"rate": 48000}),
        ("a.mp4", {"rate": 44100, "video": True}),
        ("a.mov", {"rate": 48000, "video": True}),
        ("a.mkv", {"rate": 22050, "codec": "alac"}),
    ],
)
def test_containers_give_back_what_was_put_in(name: str, form: dict, tmp_path: Path) -> None:
    plan = Plan((Sound("tone", 1, -12), Pause(1), Sound("tone", 1, -12)))
    transcript = plan.write(tmp_path / name, **form)
    sound, rate, channels = decoded(tmp_path / name)
    assert transcript.duration == 3
    # Opus files are 48 kHz whatever was put in; of a signal's own rate nothing more is heard.
    assert rate == (48000 if name in ("a.opus",) else form.get("rate", 16000))
    assert channels == form.get("channels", 1)
    assert len(sound) / rate == pytest.approx(3, abs=0.1)
    loudness = [float(np.sqrt(np.mean(part**2))) for part in np.array_split(sound, 3)]
    assert loudness[0] == pytest.approx(0.25, abs=0.05)
    assert loudness[1] < 0.05
    assert loudness[2] == pytest.approx(0.25, abs=0.05)


def test_a_film_has_pictures(tmp_path: Path) -> None:
    Plan((Sound("tone", 2),)).write(tmp_path / "a.mp4", rate=44100, video=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert sum(1 for _ in container.decode(video=0)) == 10
    with av.open(str(recordings.no_sound_track())) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.m4a", "a.mp4", "a.mkv"])
def test_the_same_plan_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    plan = Plan((Say(SENTENCE, speed=1.2), Sound("babble", 1)), background=Background("white"), seed=3)
    for folder in ("one", "two"):
        plan.write(tmp_path / folder / name, rate=48000, video=name in ("a.mp4", "a.mkv"))
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_times_are_those_of_the_sound(tmp_path: Path) -> None:
    plan = Plan((Pause(2), Say(SENTENCE), Pause(1.5), Say("fr/transfer", speed=2), Sound("music", 1)))
    transcript = plan.write(tmp_path / "a.wav")
    first, second = transcript.utterances
    assert (first.language, second.language) == ("en", "fr")
    assert first.text.startswith("And Mr. John Dashwood")
    assert transcript.text == f"{first.text} {second.text}"
    assert 2 < first.start < 2.2
    assert 8.9 < first.end <= 2 + 7.1
    clip = speech.clip("fr/transfer")
    assert 2 + 7.1 + 1.5 <= second.start < second.end < 2 + 7.1 + 1.5 + clip.seconds / 2 + 0.1
    assert transcript.duration == pytest.approx(2 + 7.1 + 1.5 + clip.seconds / 2 + 1, abs=0.1)
    sound, rate, _ = decoded(tmp_path / "a.wav")
    assert len(sound) / rate == pytest.approx(transcript.duration, abs=1e-4)
    assert not sound[: 2 * rate].any()
    assert np.abs(sound[int(first.start * rate) : int(first.end * rate)]).max() > 0.1
    assert not sound[int(9.1 * rate) + 1 : int(10.6 * rate) - 1].any()


def test_conversations_are_as_long_as_asked_and_go_on_for_ever() -> None:
    plan = conversation("en", 90)
    said = [piece.clip for piece in plan.pieces if isinstance(piece, Say)]
    assert len(said) > len(set(said)) > 200
    seconds = sum(speech.clip(p.clip).seconds if isinstance(p, Say) else p.seconds for p in plan.pieces)
    assert seconds == pytest.approx(90 * 60)


def test_long_recordings_are_streamed(tmp_path: Path) -> None:
    blocks = conversation("fr", 300).blocks()
    assert max(len(block) for block in itertools.islice(blocks, 100)) < 60 * speech.RATE


def test_named_recordings_keep_their_words(english: Path) -> None:
    transcript = recordings.transcript(english)
    assert [u.text for u in transcript.utterances] == [speech.clip(name).text for name in CLEAR["en"]]
    assert recordings.english() == english
    assert recordings.dashwood("flac").suffix == ".flac"


@pytest.mark.parametrize("name", sorted(set(recordings.NAMED) - {"english_20min"}))
def test_every_named_recording_can_be_had(name: str) -> None:
    recording = recordings.NAMED[name]()
    path = recording if isinstance(recording, Path) else recording.path
    assert path.is_file()
    broken = name in ("not_audio", "not_audio_mp3", "empty", "cut_short", "damaged", "no_sound_track")
    if not broken:
        sound, rate, _ = decoded(path)
        assert len(sound) / rate == pytest.approx(recordings.transcript(path).duration, abs=0.1)


def test_what_is_no_recording_cannot_be_read() -> None:
    for path in (recordings.not_audio(), recordings.not_audio_mp3(), recordings.empty(), recordings.cut_short()):
        with pytest.raises((av.FFmpegError, IndexError)):
            decoded(path)


def test_of_a_damaged_recording_most_can_be_heard() -> None:
    seconds = 0.0
    with av.open(str(recordings.damaged())) as container:
        for packet in container.demux(audio=0):
            with contextlib.suppress(av.FFmpegError):
                seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
    whole = recordings.transcript(recordings.english()).duration
    assert 0.9 * whole < seconds < whole


@pytest.mark.parametrize("kind", ["white", "babble", "music", "tone"])
def test_sounds_have_their_level(kind: sounds.Kind) -> None:
    sound = np.concatenate(list(sounds.cut(sounds.endless(kind, -30, seed=1), 5 * speech.RATE)))
    assert len(sound) == 5 * speech.RATE
    assert 20 * np.log10(np.sqrt(np.mean(sound**2))) == pytest.approx(-30, abs=0.2)


def test_words_are_known_of_clips_that_exist() -> None:
    for name in (*CORRECTED, *itertools.chain.from_iterable(CLEAR.values())):
        assert speech.clip(name).text
    assert {group: len(speech.clips(group)) > 250 for group in ("en", "es", "fr")} == dict.fromkeys(
        ("en", "es", "fr"), True
    )
    assert not any(mark in clip.text for clip in speech.clips("en").values() for mark in "[]<")


def test_other_contents_of_a_package_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"one")
    before = speech.fingerprint(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"two")
    assert speech.fingerprint(tmp_path) != before
