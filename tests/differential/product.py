"""Which recording meets which options.

Diagonal k pairs recording i with option (i × 11 + k) mod n: a diagonal has every recording once and, where there are
more recordings than options, every option too; the n diagonals are the whole product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.differential import options, recordings
from tests.differential.options import OPTIONS, Asked
from tests.differential.recordings import RECORDINGS, Recording

_STRIDE = 11


@dataclass(frozen=True)
class Pair:
    """A recording and options, with their names."""

    recording: Recording
    recorded: str
    asked: Asked
    asking: str

    @property
    def name(self) -> str:
        return f"{self.recorded} / {self.asking}"


def diagonals(which: Iterable[int]) -> Iterator[Pair]:
    """The pairs of these diagonals, one diagonal after the other."""
    asked = list(OPTIONS.items())
    for diagonal in which:
        for place, (recorded, recording) in enumerate(RECORDINGS.items()):
            asking, combination = asked[(place * _STRIDE + diagonal) % len(asked)]
            yield Pair(recording, recorded, combination, asking)


def pair(recorded: str, asking: str) -> Pair:
    """One pair by its names."""
    return Pair(RECORDINGS[recorded], recorded, OPTIONS[asking], asking)


def drawn(count: int, seed: int) -> Iterator[Pair]:
    """Pairs of chance: recordings and options that nobody chose."""
    for number in range(seed * 10_000, seed * 10_000 + count):
        recorded, recording = recordings.draw(number)
        asking, asked = options.draw(number)
        yield Pair(recording, recorded, asked, asking)


#: What the unit suite has time for: every option, on recordings that are short.
SLICE: dict[str, tuple[tuple[str, str], ...]] = {
    "tiny.en": (
        ("video", "greedy"),
        ("cards", "the command's defaults"),
        ("tone", "the function's defaults"),
        ("synthetic", "beams"),
        ("very fast", "patience"),
        ("one word", "impatience"),
        ("dashwood", "one beam"),
        ("cards", "length penalty"),
        ("dashwood", "no length penalty"),
        ("exactly 30 s", "words"),
        ("eight channels", "words of beams"),
        ("slow", "words, other marks"),
        ("silence", "words, made-up text in silence"),
        ("one word", "words, little silence"),
        ("a bit over 30 s", "no context"),
        ("cards", "a prompt"),
        ("a bit over 30 s", "a prompt carried"),
        ("faint", "a prompt carried, no context"),
        ("stereo", "a long prompt"),
        ("menu", "clips"),
        ("synthetic", "from a moment on"),
        ("white noise, 0 dB", "clips as numbers, words"),
        ("0.1 s", "no clips"),
        ("over music", "everything may be written"),
        ("babble, 5 dB", "some tokens ruled out"),
        ("telephone", "only some ruled out"),
        ("one word", "fallback by probability, nothing drawn"),
        ("dashwood", "fallback by repetition, nothing drawn"),
        ("cards", "fallback by probability"),
        ("one word", "fallback by repetition, words"),
        ("a second of nothing", "no thresholds"),
        ("ends early", "hears silence soon"),
        ("late", "silence by its probability alone"),
        ("hiss", "never silence"),
        ("music, then speech", "warm"),
        ("dashwood", "hot, best of five, words"),
    ),
    "base": (
        ("french, noisy", "the spoken language"),
        ("cards", "a wrong language"),
        ("one word", "words of a wrong language"),
        ("dashwood", "a language without spaces"),
        ("french, then english", "greedy"),
        ("french, noisy", "translation"),
        ("spanish, fast", "translation of beams, words"),
    ),
}
