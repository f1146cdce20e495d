"""Recordings made of people's sentences, with known words and times, of any length and form.

    plan = Plan((Say("en/vm-goodbye"), Pause(2), Say("fr/demo-congrats"), Sound("music", 5)))
    transcript = plan.write(Path("x.mp3"))

Everything is deterministic: the same plan gives the same bytes.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tests.materials import containers, sounds, speech
from tests.materials.speech import RATE, Samples


@dataclass(frozen=True)
class Say:
    """A person's sentence, by the clip's name; `speed` 2 is twice as fast at the same pitch."""

    clip: str
    speed: float = 1.0
    decibels: float = 0.0


@dataclass(frozen=True)
class Pause:
    """Digital silence."""

    seconds: float


@dataclass(frozen=True)
class Sound:
    """Something that is not speech, at a mean level in dB below full scale."""

    kind: sounds.Kind
    seconds: float
    decibels: float = -20.0


@dataclass(frozen=True)
class Background:
    """A sound under the whole recording."""

    kind: sounds.Kind
    decibels: float = -40.0


Piece = Say | Pause | Sound


@dataclass(frozen=True)
class Utterance:
    """What was said, and when: seconds in the recording, from the first to the last audible sound."""

    text: str
    language: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """Everything that is said in a recording."""

    utterances: tuple[Utterance, ...]
    duration: float

    @property
    def text(self) -> str:
        return " ".join(utterance.text for utterance in self.utterances)

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"text": self.text}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Transcript:
        stored = json.loads(text)
        return cls(tuple(Utterance(**item) for item in stored["utterances"]), stored["duration"])


@dataclass(frozen=True)
class Plan:
    """What a recording consists of, one piece after the other."""

    pieces: tuple[Piece, ...]
    background: Background | None = None
    seed: int = 0

    def write(
        self,
        path: Path,
        *,
        rate: int = RATE,
        channels: int = 1,
        codec: str | None = None,
        video: bool = False,
    ) -> Transcript:
        """Write the recording in the form that the path's suffix says, streamed to the disk."""
        utterances: list[Utterance] = []
        duration = containers.write(
            path, self.blocks(utterances), rate=rate, channels=channels, codec=codec, video=video
        )
        return Transcript(tuple(utterances), duration)

    def blocks(self, utterances: list[Utterance] | None = None) -> Iterator[Samples]:
        """Yield the sound, mono at 16 kHz; what is said is added to `utterances` on the way."""
        blocks = self._foreground([] if utterances is None else utterances)
        if self.background is None:
            return blocks
        under = sounds.endless(self.background.kind, self.background.decibels, self.seed)
        return _mixed(blocks, under)

    def _foreground(self, utterances: list[Utterance]) -> Iterator[Samples]:
        done = 0
        for index, piece in enumerate(self.pieces):
            if isinstance(piece, Say):
                clip = speech.clip(piece.clip)
                samples = sounds.at_speed(clip.samples(), piece.speed) * np.float32(sounds.level(piece.decibels))
                first, last = _audible(samples)
                start, end = round((done + first) / RATE, 3), round((done + last) / RATE, 3)
                utterances.append(Utterance(clip.text, clip.language, start, end))
                pieces: Iterable[Samples] = (samples,)
            elif isinstance(piece, Sound):
                endless = sounds.endless(piece.kind, piece.decibels, self.seed * 100_003 + index)
                pieces = sounds.cut(endless, round(piece.seconds * RATE))
            else:
                pieces = _silence(round(piece.seconds * RATE))
            for block in pieces:
                done += len(block)
                yield block


def sentences(language: str, *, at_least: float = 1.5, seed: int = 0) -> list[speech.Clip]:
    """Return a language's sentences in an order of chance, the same every time.

    Very short prompts ("two") and those that are only parts of sentences are left out by their length.
    """
    clips = [clip for clip in speech.clips(language).values() if clip.seconds >= at_least]
    random.Random(seed).shuffle(clips)
    return clips


def conversation(
    language: str,
    minutes: float,
    *,
    pause: float = 0.67,
    speed: float = 1.0,
    seed: int = 0,
    background: Background | None = None,
) -> Plan:
    """Plan a recording of this length: sentences with pauses between, from the start again if need be.

    At the normal speed the length is exact; at another, to within some milliseconds a sentence.
    """
    pieces: list[Piece] = []
    left = minutes * 60
    for clip in itertools.cycle(sentences(language, seed=seed)):
        seconds = clip.seconds / speed + pause
        if seconds > left:
            break
        pieces += [Say(clip.name, speed), Pause(pause)]
        left -= seconds
    pieces.append(Pause(left))
    return Plan(tuple(pieces), background=background, seed=seed)


def _silence(samples: int) -> Iterator[Samples]:
    for start in range(0, samples, RATE):
        yield np.zeros(min(RATE, samples - start), dtype=np.float32)


def _mixed(blocks: Iterator[Samples], under: Iterator[Samples]) -> Iterator[Samples]:
    rest = next(under)
    for block in blocks:
        while len(rest) < len(block):
            rest = np.concatenate([rest, next(under)])
        yield block + rest[: len(block)]
        rest = rest[len(block) :]


def _audible(samples: Samples) -> tuple[int, int]:
    """Find the first and the last sample that can be heard: 10 ms as loud as a fortieth of the loudest."""
    frame = RATE // 100
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    loudness = np.sqrt(np.mean(whole**2, axis=1))
    heard = np.flatnonzero(loudness > loudness.max() / 40)
    return int(heard[0]) * frame, (int(heard[-1]) + 1) * frame
