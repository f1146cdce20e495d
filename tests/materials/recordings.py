"""Recordings that tests ask for by name: each is made once and kept.

They are files; `transcript(file)` tells what is said in them. Others are made by `made(name, plan)`, or by a plan's
own `write` (`plans.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.materials import cache, containers, speech
from tests.materials.plans import (
    Background,
    Pause,
    Piece,
    Plan,
    Say,
    Sound,
    Transcript,
    conversation,
)
from tests.materials.words import CLEAR

#: Raised when the same plan comes to give other bytes.
_FORMAT = 2


class Recording(NamedTuple):
    """A file, and what is said in it."""

    path: Path
    transcript: Transcript


def made(
    name: str, plan: Plan, *, rate: int = speech.RATE, channels: int = 1, codec: str | None = None, video: bool = False
) -> Path:
    """Return a recording as planned, under this file name; made now if it has not been made before."""
    form = (_FORMAT, plan, rate, channels, codec, video)
    key = hashlib.sha256(repr(form).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        folder.mkdir()
        said = plan.write(folder / name, rate=rate, channels=channels, codec=codec, video=video)
        (folder / "transcript.json").write_text(said.to_json(), encoding="utf-8")

    return cache.build_once(_folder() / f"{name}-{key}", build) / name


def transcript(recording: Path) -> Transcript:
    """Return what is said in one of these recordings, and when."""
    return Transcript.from_json((recording.parent / "transcript.json").read_text(encoding="utf-8"))


def _folder() -> Path:
    return cache.materials() / "recordings"


def clear(language: str, *, pause: float = 1.0, times: int = 1) -> Plan:
    """Plan the sentences that base writes word for word, with pauses between them."""
    pieces: list[Piece] = []
    for name in CLEAR[language] * times:
        pieces += [Say(name), Pause(pause)]
    return Plan(tuple(pieces))


def dashwood(suffix: str = "wav") -> Path:
    """One English sentence of 7 s at 16 kHz: base and tiny.en write it word for word in every program."""
    return made(f"dashwood.{suffix}", Plan((Say(speech.dashwood().name),)))


def english() -> Path:
    """Ten clear English sentences, mp3."""
    return made("english.mp3", clear("en"))


def french() -> Path:
    """Ten clear French sentences, flac."""
    return made("french.flac", clear("fr"))


def spanish() -> Path:
    """Ten clear Spanish sentences, ogg with Opus at 48 kHz."""
    return made("spanish.ogg", clear("es"), rate=48000)


def english_20min() -> Recording:
    """Exactly 20 minutes of English sentences, mp3."""
    return _long(20)


def english_2min() -> Recording:
    """Exactly two minutes of English sentences, mp3."""
    return _long(2)


def _long(minutes: float) -> Recording:
    path = made(f"english_{minutes:g}min.mp3", conversation("en", minutes))
    return Recording(path, transcript(path))


def video() -> Path:
    """The clear English sentences as an mp4 with a picture track, 44.1 kHz stereo."""
    return made("video.mp4", clear("en"), rate=44100, channels=2, video=True)


def stereo() -> Path:
    """The clear English sentences, 48 kHz stereo m4a."""
    return made("stereo.m4a", clear("en"), rate=48000, channels=2)


def telephone() -> Path:
    """The clear English sentences as a telephone has them: 8 kHz, mu-law."""
    return made("telephone.wav", clear("en"), rate=8000, codec="pcm_mulaw")


def noisy() -> Path:
    """The clear English sentences, with other people talking in the background."""
    plan = Plan(clear("en").pieces, background=Background("babble", -35))
    return made("noisy.mp3", plan)


def with_long_pauses() -> Path:
    """Three English sentences with half a minute of silence around each."""
    said = [piece for name in CLEAR["en"][:3] for piece in (Pause(30), Say(name))]
    return made("with_long_pauses.flac", Plan((*said, Pause(30))))


def two_languages() -> Path:
    """Five French sentences, then five English ones."""
    pieces = [piece for name in (*CLEAR["fr"][:5], *CLEAR["en"][:5]) for piece in (Say(name), Pause(1))]
    return made("two_languages.mp3", Plan(tuple(pieces)))


def silence() -> Path:
    """Half a minute of digital silence."""
    return made("silence.wav", Plan((Pause(30),)))


def noise() -> Path:
    """Half a minute of white noise."""
    return made("noise.wav", Plan((Sound("white", 30, -30),)))


def music() -> Path:
    """A minute of chords without a voice."""
    return made("music.mp3", Plan((Sound("music", 60),)))


def _file(name: str, build: Callable[[Path], None]) -> Path:
    """Make what has no words: no transcript lies beside it."""
    return cache.build_once(_folder() / "wordless" / name, build)


def not_audio() -> Path:
    """Bytes that are no recording at all."""
    return _file("not_audio.bin", lambda path: _write(path, hashlib.sha256(b"no sound").digest() * 1000))


def not_audio_mp3() -> Path:
    """A web page that somebody saved as an mp3."""
    return _file("page.mp3", lambda path: _write(path, b"<!doctype html><title>404</title>Not found\n" * 50))


def empty() -> Path:
    """A file of no bytes."""
    return _file("empty.wav", lambda path: _write(path, b""))


def no_sound_track() -> Path:
    """A film without sound."""
    return _file("no_sound_track.mp4", lambda path: containers.write_silent_video(path, 5))


def cut_short() -> Path:
    """The first half of the bytes of an m4a: its table of contents, at the end, is missing."""
    return _file("cut_short.m4a", lambda path: _write(path, _half(stereo())))


def damaged() -> Path:
    """The clear English sentences as an mp3 with a hole of 4 KB in its middle: who skips it hears the rest."""

    def build(path: Path) -> None:
        data = bytearray(english().read_bytes())
        middle = len(data) // 2
        data[middle : middle + 4096] = bytes(4096)
        _write(path, bytes(data))

    return _file("damaged.mp3", build)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _half(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: len(data) // 2]


NAMED: dict[str, Callable[[], Path | Recording]] = {
    function.__name__: function
    for function in (
        dashwood,
        english,
        french,
        spanish,
        english_2min,
        english_20min,
        video,
        stereo,
        telephone,
        noisy,
        with_long_pauses,
        two_languages,
        silence,
        noise,
        music,
        not_audio,
        not_audio_mp3,
        empty,
        no_sound_track,
        cut_short,
        damaged,
    )
}
