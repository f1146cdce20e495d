"""The material: people's speech with known text, as WAV of 16 kHz, which every program reads without a decoder."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from tests.materials import recordings, speech
from tests.materials.plans import Pause, Piece, Plan, Say, sentences

_PROMPTS = 50
_PAUSE = 0.67
#: Leaves the short ones out, so that 50 make some 397 s.
_AT_LEAST = 3.05
_SECONDS = 397.0
#: Seconds between two sentences of the long material, one as likely as the other: breath, thought, and a long silence.
_PAUSES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0, 8.0)
_GROUPS = {"en": ("librivox", "cards", "en"), "es": ("es",), "fr": ("fr",)}


@dataclass(frozen=True)
class Sound:
    """Files, what is said in each, and how long all of it takes.

    speech: seconds from each sentence's first sound to its last, summed.
    """

    name: str
    files: tuple[Path, ...]
    texts: tuple[str, ...]
    duration: float
    speech: float

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def prompts() -> Plan:
    """50 English prompts with 0.67 s between them: 397 s."""
    pieces: list[Piece] = []
    left = _SECONDS
    for clip in sentences("en", at_least=_AT_LEAST)[:_PROMPTS]:
        pieces += [Say(clip.name), Pause(_PAUSE)]
        left -= clip.seconds + _PAUSE
    return Plan((*pieces, Pause(left)))


def hours(count: float, language: str = "en") -> Plan:
    """All that there is in a language, in ever another order, with pauses of 0.3 to 8 s: exactly `count` hours.

    There are some 20 minutes of it a language, so that an hour has every sentence two or three times.
    """
    chance = random.Random(language)
    clips = [clip for group in _GROUPS[language] for clip in speech.clips(group).values()]
    pieces: list[Piece] = []
    left, turn = count * 3600, list[speech.Clip]()
    while True:
        if not turn:
            turn = chance.sample(clips, len(clips))
        clip, pause = turn.pop(), chance.choice(_PAUSES)
        if clip.seconds + pause > left:
            break
        pieces += [Say(clip.name), Pause(pause)]
        left -= clip.seconds + pause
    return Plan((*pieces, Pause(left)))


def cut(plan: Plan, count: int) -> list[Plan]:
    """The same material as `count` plans, cut between sentences, with as many sentences in each as can be."""
    starts = [index for index, piece in enumerate(plan.pieces) if isinstance(piece, Say)]
    if not 1 <= count <= len(starts):
        raise ValueError(f"{len(starts)} sentences cannot be cut into {count} files")
    marks = [0, *(starts[len(starts) * part // count] for part in range(1, count)), len(plan.pieces)]
    return [Plan(plan.pieces[begin:end]) for begin, end in itertools.pairwise(marks)]


def made(name: str, plans: list[Plan]) -> Sound:
    """The plans as files in the cache of materials."""
    files = [recordings.made(f"{name}.wav", plan) for plan in plans]
    said = [recordings.transcript(file) for file in files]
    return Sound(
        name,
        tuple(files),
        tuple(each.text for each in said),
        duration=sum(each.duration for each in said),
        speech=sum(utterance.end - utterance.start for each in said for utterance in each.utterances),
    )
