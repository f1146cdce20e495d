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
