"""Who is compared, and what is told of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench import limit
from bench.programs import Program, Settings
from bench.report import table
from bench.sound import Sound
from bench.wording import words
from bench.worker import Answer
from tests.materials.wer import distance


@dataclass(frozen=True)
class Contender:
    """A program and a way of running it."""

    program: Program
    mode: Literal["sequential", "batched"]
    precision: str = "float32"
    batch_size: int | None = None
    timestamps: bool | None = None
    """None for the program's own habit: CTranslate2's batches leave times out, all others have them."""

    @property
    def name(self) -> str:
        words = [self.program, self.mode]
        if self.batch_size is not None:
            words.append(f"({self.batch_size})")
        if self.timestamps is not None:
            words.append("with times" if self.timestamps else "without times")
        return " ".join(words)

    @property
    def full(self) -> str:
        return f"{self.name} {self.precision}"


OURS = Contender("ours", "batched", batch_size=16)
OPENAI = Contender("openai-whisper", "sequential")
#: One file, from its start to its end.
ONE_FILE = (
    Contender("ours", "sequential"),
    OURS,
    replace(OURS, precision="bfloat16"),
    replace(OURS, precision="int8"),
    OPENAI,
    Contender("transformers", "sequential"),
    Contender("transformers", "batched", batch_size=4),
    Contender("faster-whisper", "sequential"),
    Contender("faster-whisper", "batched", batch_size=8),
    Contender("faster-whisper", "batched", batch_size=8, timestamps=True),
    Contender("faster-whisper", "batched", precision="int8", batch_size=8),
)
#: Many files, where ours goes through several at once and the others through one after the other.
MANY_FILES = (
    Contender("ours", "sequential", batch_size=8),
    OPENAI,
    Contender("faster-whisper", "sequential"),
)
#: Whose batch size is varied, and whose length of sound.
SWEPT = (OURS, Contender("faster-whisper", "batched", batch_size=8), Contender("transformers", "batched", batch_size=4))
LENGTHS = (Contender("ours", "sequential"), OURS, OPENAI, Contender("faster-whisper", "batched", batch_size=8))


@dataclass(frozen=True)
class Line:
    """A contender's runs with one set of settings."""

    contender: Contender
    settings: Settings
    answers: tuple[Answer, ...]

    @property
    def trouble(self) -> str | None:
        """Why there is no figure."""
        for answer in self.answers:
            if answer.missing or answer.failed:
                return answer.missing or f"failed: {answer.failed}"
        return None

    @property
    def seconds(self) -> float:
        return statistics.median(answer.seconds for answer in self.answers)

    @property
    def text(self) -> str:
        return " ".join(self.answers[-1].texts)


def best_sizes(lines: Iterable[Line], usual: Sequence[Contender]) -> list[Contender]:
    """The contenders of a sweep at the batch sizes at which they were fastest, where those are not the usual ones."""
    fastest: dict[Contender, Line] = {}
    for line in lines:
        kind = replace(line.contender, batch_size=None)
        if line.trouble is None and (kind not in fastest or line.seconds < fastest[kind].seconds):
            fastest[kind] = line
    return [line.contender for line in fastest.values() if line.contender not in usual]


HEAD = (
    *(
        "contender",
        "precision",
        "settings",
        "seconds",
        "× real time",
        "ours is faster by",
        "faster than openai-whisper by",
    ),
    *("word error", "words other than openai-whisper's", "peak memory, MB", "loading, s", "share of the limit"),
)


def rows(
    lines: Sequence[Line],
    sound: Sound,
    *,
    floors: dict[str, float],
    ours: Contender = OURS,
    language: str = "en",
) -> list[list[str]]:
    """The table's rows. floors: the least seconds by precision. ours: whom ratios are told against.

    A ratio is of medians with equal settings; it is left out where there is nothing to compare with.
    """
    expected = words(sound.text, language)
    found = {(line.contender, line.settings): line for line in lines if line.trouble is None}
    told = []
    for line in lines:
        head = [line.contender.name, line.contender.precision, line.settings]
        if line.trouble is not None:
            told.append([*head, line.trouble, *[""] * (len(HEAD) - len(head) - 1)])
            continue
        own, theirs = found.get((ours, line.settings)), found.get((OPENAI, line.settings))
        heard = words(line.text, language)
        others = distance(words(theirs.text, language), heard) if theirs else None
        floor = floors.get(line.contender.precision)
        every = ", ".join(f"{answer.seconds:.1f}" for answer in line.answers)
        told.append(
            [
                *head,
                f"{line.seconds:.1f}" + (f" ({every})" if len(line.answers) > 1 else ""),
                f"{sound.duration / line.seconds:.1f}",
                f"{line.seconds / own.seconds:.2f}" if own else "",
                f"{theirs.seconds / line.seconds:.2f}" if theirs else "",
                f"{distance(expected, heard) / len(expected):.1%}",
                "" if others is None else str(others),
                f"{max(answer.megabytes for answer in line.answers):.0f}",
                f"{statistics.median(answer.load_seconds for answer in line.answers):.1f}",
                f"{floor / line.seconds:.0%}" if floor else "",
            ]
        )
    return told


def part(
    title: str, machine: Sequence[str], lines: Sequence[Line], sound: Sound, floors: dict[str, float], ours: Contender
) -> str:
    """A part of the report: a heading, what was measured where, and the table."""
    least = ", ".join(f"{value:.1f} s in {name}" for name, value in floors.items())
    about = (
        f"{len(sound.files)} file{'s'[: len(sound.files) > 1]}, {sound.duration:.0f} s, of which {sound.speech:.0f} s "
        f"speech, {len(sound.text.split())} words. The limit, from the FLOPs of the speech alone: {least}."
    )
    shown = table(HEAD, rows(lines, sound, floors=floors, ours=ours))
    return "\n\n".join([f"## {title}", "\n".join(machine), about, shown])


def floors(model: str, sound: Sound, tokens: int, flops: dict[str, float]) -> dict[str, float]:
    """The least seconds for the speech of a sound, by precision."""
    return {
        kind: limit.seconds(limit.SIZES[model], sound.speech, tokens, per_second) for kind, per_second in flops.items()
    }
