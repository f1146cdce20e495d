"""What is told of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.contenders import HEAD, OPENAI, OURS, Contender, Line, best_sizes, floors, rows
from bench.sound import Sound
from bench.worker import Answer

SOUND = Sound("two", (Path("a.wav"), Path("b.wav")), ("Red green.", "Blue white."), duration=60.0, speech=45.0)
INT8 = replace(OURS, precision="int8")


def answer(seconds: float, *texts: str, **more: float) -> Answer:
    return Answer(seconds=seconds, texts=texts, load_seconds=1.0, megabytes=100.0, **more)


def cells(*lines: Line) -> list[dict[str, str]]:
    told = rows(lines, SOUND, floors={"float32": 1.0})
    assert {len(row) for row in told} == {len(HEAD)}
    return [dict(zip(HEAD, row, strict=True)) for row in told]


def test_ratios_are_of_medians_with_equal_settings() -> None:
    said = ("red green", "blue white")
    ours, theirs, other = cells(
        Line(OURS, "greedy", (answer(9.0, *said), answer(2.0, *said), answer(3.0, *said))),
        Line(OPENAI, "greedy", (answer(6.0, *said),)),
        Line(OPENAI, "default", (answer(60.0, *said),)),
    )
    assert ours["seconds"] == "3.0 (9.0, 2.0, 3.0)"
    assert ours["× real time"] == "20.0"
    assert ours["faster than openai-whisper by"] == "2.00"
    assert ours["share of the limit"] == "33%"
    assert theirs["ours is faster by"] == "2.00"
    assert other["ours is faster by"] == ""
    assert other["faster than openai-whisper by"] == "1.00"


def test_words_are_compared_with_the_truth_and_with_openai_whisper() -> None:
    ours, theirs = cells(
        Line(OURS, "greedy", (answer(1.0, "Red, green", "blue"),)),
        Line(OPENAI, "greedy", (answer(1.0, "Red", "blue black"),)),
    )
    assert (ours["word error"], theirs["word error"]) == ("25.0%", "50.0%")
    assert (ours["words other than openai-whisper's"], theirs["words other than openai-whisper's"]) == ("2", "0")


def test_who_is_missing_or_failed_has_a_row_that_says_so() -> None:
    missing, failed = cells(
        Line(INT8, "greedy", (Answer(missing="not installed (x)"),)),
        Line(OURS, "greedy", (answer(1.0, "red"), Answer(failed="OutOfMemory: no"))),
    )
    assert missing["seconds"] == "not installed (x)"
    assert failed["seconds"] == "failed: OutOfMemory: no"


def test_a_precision_without_a_floor_has_no_share() -> None:
    (row,) = cells(Line(INT8, "greedy", (answer(1.0, "red"),)))
    assert row["share of the limit"] == ""


def test_the_best_size_of_each_is_added_if_it_is_not_there() -> None:
    batched = Contender("faster-whisper", "batched")
    lines = [
        Line(replace(contender, batch_size=size), "greedy", (answer(seconds, "one"),))
        for contender, size, seconds in [(OURS, 8, 2.0), (OURS, 16, 3.0), (batched, 8, 5.0), (batched, 16, 4.0)]
    ]
    failed = Line(replace(batched, batch_size=32), "greedy", (Answer(failed="OutOfMemory"),))
    usual = [replace(OURS, batch_size=8), replace(batched, batch_size=8)]
    assert best_sizes([*lines, failed], usual) == [replace(batched, batch_size=16)]


def test_names_tell_contenders_apart() -> None:
    kinds = [OURS, INT8, replace(OURS, batch_size=None), replace(OURS, timestamps=True), OPENAI]
    assert len({kind.full for kind in kinds}) == len(kinds)


def test_floors_are_of_the_speech_alone() -> None:
    half = replace(SOUND, speech=22.5)
    assert (
        floors("base", half, 5, {"float32": 1e9})["float32"]
        == floors("base", SOUND, 10, {"float32": 1e9})["float32"] / 2
    )
