"""The recordings that both programs hear: people and a synthetic voice in three languages, and what is no speech.

Most are short: a run takes about as long as its recording. `draw` makes others of chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.differential import synthesis
from tests.materials import recordings, speech
from tests.materials.plans import Background, Pause, Piece, Plan, Say, Sound, conversation
from tests.materials.words import CLEAR

_AUSTEN = "librivox/sense_and_sensibility_01_austen_64kb-"
_SYNTHETIC = (
    "The committee met on the fourth of March, at half past nine. Nobody had read the report; everybody had an "
    "opinion about it. Doctor Abernathy asked for 1250 dollars, and was given 75."
)


@dataclass(frozen=True)
class Recording:
    """A file to be made when it is asked for, and the language that is spoken in it (or the first of them)."""

    path: Callable[[], Path]
    language: str = "en"


def _made(
    name: str, *pieces: Piece, language: str = "en", background: Background | None = None, **form: Any
) -> Recording:
    plan = Plan(pieces, background=background)
    return Recording(lambda: recordings.made(f"diff_{name}", plan, **form), language)


def _clear(language: str, first: int, last: int, pause: float = 0.7, **how: float) -> tuple[Piece, ...]:
    """Sentences that base hears right, with pauses between."""
    return tuple(piece for name in CLEAR[language][first:last] for piece in (Say(name, **how), Pause(pause)))


def _talk(language: str, seconds: float, seed: int, **how: Any) -> tuple[Piece, ...]:
    """Sentences of chance, for exactly this long."""
    return conversation(language, seconds / 60, seed=seed, **how).pieces


_STORY = tuple(Say(f"{_AUSTEN}{number}") for number in ("0870", "0880", "0890", "0920", "0930"))

RECORDINGS: dict[str, Recording] = {
    # Read and spoken English.
    "dashwood": Recording(recordings.dashwood),
    "austen": _made("austen.wav", *_STORY),
    "cards": _made("cards.wav", Say("cards/005"), Pause(0.5), Say("cards/002"), Pause(0.5), Say("cards/004")),
    "prompts": _made("prompts.mp3", *_talk("en", 18, 1)),
    "more prompts": _made("more_prompts.ogg", *_talk("en", 24, 2), rate=48_000),
    "menu": _made("menu.flac", Say("en/conf-adminmenu-menu8")),
    "synthetic": Recording(lambda: synthesis.said("committee.wav", _SYNTHETIC)),
    # How it was recorded.
    "telephone": _made("telephone.wav", *_clear("en", 0, 3), rate=8000, codec="pcm_mulaw"),
    "video": _made("video.mp4", *_clear("en", 3, 6), rate=44_100, channels=2, video=True),
    "stereo": _made("stereo.m4a", *_clear("en", 6, 9), rate=48_000, channels=2),
    "eight channels": _made("eight.wav", *_clear("en", 1, 3), rate=96_000, channels=8),
    "clipped": _made("clipped.wav", *_clear("en", 0, 3, decibels=25.0)),
    "faint": _made("faint.wav", *_clear("en", 3, 6, decibels=-45.0)),
    "loud and faint": _made("loud_and_faint.wav", *_clear("en", 0, 2), *_clear("en", 2, 4, decibels=-40.0)),
    # How it was spoken.
    "fast": _made("fast.wav", *_clear("en", 0, 4, speed=1.5)),
    "very fast": _made("very_fast.wav", *_clear("en", 4, 8, 0.2, speed=2.0)),
    "slow": _made("slow.wav", *_clear("en", 2, 4, speed=0.65)),
    "the same again": _made("again.wav", *(_clear("en", 9, 10, 0.3) * 8)),
    # What is under it.
    "white noise, 25 dB": _made("white25.wav", *_clear("en", 0, 3), background=Background("white", -45)),
    "white noise, 10 dB": _made("white10.wav", *_clear("en", 3, 6), background=Background("white", -30)),
    "white noise, 0 dB": _made("white0.wav", *_clear("en", 6, 9), background=Background("white", -20)),
    "babble, 15 dB": _made("babble15.mp3", *_clear("en", 0, 3), background=Background("babble", -35)),
    "babble, 5 dB": _made("babble5.mp3", *_clear("en", 3, 6), background=Background("babble", -25)),
    "over music": _made("over_music.wav", *_clear("en", 6, 9), background=Background("music", -32)),
    # Silence, and sounds without a word.
    "silence": _made("silence.wav", Pause(20)),
    "hiss": _made("hiss.wav", Sound("white", 20, -75)),
    "noise": _made("noise.wav", Sound("white", 16, -25)),
    "chords": _made("chords.mp3", Sound("music", 20)),
    "tone": _made("tone.wav", Sound("tone", 8)),
    "babble": _made("babble.wav", Sound("babble", 12, -25)),
    "music, then speech": _made("music_first.wav", Sound("music", 10), *_clear("en", 0, 2)),
    "pauses of 12 s": _made("pauses.flac", *_clear("en", 0, 4, 12.0)),
    "late": _made("late.wav", Pause(36), *_clear("en", 4, 6)),
    "ends early": _made("ends_early.wav", *_clear("en", 2, 4), Pause(30)),
    # Lengths.
    "0.1 s": _made("tenth.wav", Sound("white", 0.1, -30)),
    "one word": _made("word.wav", Say("cards/001")),
    "a second of nothing": _made("second.wav", Pause(1)),
    "exactly 30 s": _made("thirty.wav", *_talk("en", 30, 3)),
    "a bit over 30 s": _made("thirty_over.wav", *_talk("en", 30.3, 4)),
    "a bit over 60 s": _made("sixty_over.wav", *_talk("en", 60.02, 5)),
    "90 s": _made("ninety.mp3", *_talk("en", 90, 6)),
    "45 s without a pause": _made("no_pause.wav", *_talk("en", 45, 7, pause=0.05)),
    # French, Spanish, and more than one language.
    "french": _made("french.flac", *_clear("fr", 0, 4), language="fr"),
    "french prompts": _made("french_prompts.wav", *_talk("fr", 34, 8), language="fr"),
    "french, noisy": _made("french_noisy.wav", *_clear("fr", 4, 7), language="fr", background=Background("white", -32)),
    "spanish": _made("spanish.ogg", *_clear("es", 0, 4), language="es", rate=48_000),
    "spanish prompts": _made("spanish_prompts.wav", *_talk("es", 26, 9), language="es"),
    "spanish, fast": _made("spanish_fast.wav", *_clear("es", 4, 8, speed=1.4), language="es"),
    "french, then english": _made("fr_en.wav", *_clear("fr", 7, 9), *_clear("en", 0, 2), language="fr"),
    "three languages": _made(
        "three.mp3", *_clear("es", 8, 10), *_clear("en", 4, 6), *_clear("fr", 2, 4), *_clear("es", 2, 4), language="es"
    ),
}


def draw(seed: int) -> tuple[str, Recording]:
    """A recording of chance: sentences of all that there are, pauses, speeds, levels, noise; 4 to 50 s."""
    chance = random.Random(f"recording {seed}")
    language = chance.choice(("en", "en", "es", "fr"))
    other = chance.choice(("en", "es", "fr"))
    switches = chance.random() < 0.15
    speed = chance.choice((1.0, 1.0, 1.0, 0.75, 1.25, 1.6))
    level = chance.choice((0.0, 0.0, -10.0, -30.0, 12.0))
    pieces: list[Piece] = []
    left = chance.uniform(4, 50)
    while left > 0:
        voice = other if switches and chance.random() < 0.5 else language
        clip = chance.choice(list(speech.clips(voice).values()))
        if clip.seconds > 20:
            continue
        pause = chance.choice((0.1, 0.4, 0.8, 1.5, 6.0)) * chance.random()
        pieces += [Say(clip.name, speed, level), Pause(pause)]
        if chance.random() < 0.05:
            pieces.append(Sound(chance.choice(("music", "babble", "white")), chance.uniform(1, 8), -30))
        left -= clip.seconds / speed + pause
    background = None
    if chance.random() < 0.5:
        background = Background(chance.choice(("white", "babble", "music")), chance.uniform(-60, -20))
    plan = Plan(tuple(pieces), background=background, seed=seed)
    suffix = chance.choice((".wav", ".flac", ".mp3", ".ogg"))
    rate = 48_000 if suffix == ".ogg" else chance.choice((8000, 16_000, 44_100)) if suffix != ".mp3" else 16_000
    return f"drawn {seed}", Recording(lambda: recordings.made(f"drawn_{seed}{suffix}", plan, rate=rate), language)
