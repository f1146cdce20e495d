"""What is heard in a benchmark: its length and its words."""

from __future__ import annotations

import pytest

from bench import sound
from tests.materials import speech
from tests.materials.plans import Pause, Plan, Say


def seconds(plan: Plan) -> float:
    return sum(speech.clip(p.clip).seconds if isinstance(p, Say) else p.seconds for p in plan.pieces)


def said(plan: Plan) -> list[str]:
    return [piece.clip for piece in plan.pieces if isinstance(piece, Say)]


def test_the_prompts_are_50_in_397_seconds() -> None:
    plan = sound.prompts()
    assert len(set(said(plan))) == 50
    assert seconds(plan) == pytest.approx(397.0)
    assert all(piece.seconds >= 0.67 for piece in plan.pieces if isinstance(piece, Pause))


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_hours_are_of_the_length_asked_for_and_of_one_language(language: str) -> None:
    plan = sound.hours(1.5, language)
    assert seconds(plan) == pytest.approx(5400.0)
    assert {speech.clip(name).language for name in said(plan)} == {language}
    assert all(piece.seconds >= 0 for piece in plan.pieces if isinstance(piece, Pause))


def test_an_hour_has_everything_there_is() -> None:
    every = {clip.name for group in ("librivox", "cards", "en") for clip in speech.clips(group).values()}
    assert set(said(sound.hours(1.0))) == every


def test_a_longer_plan_begins_as_a_shorter_does() -> None:
    short, long = said(sound.hours(0.1)), said(sound.hours(0.2))
    assert long[: len(short)] == short


@pytest.mark.parametrize("count", [1, 3, 16, 50])
def test_what_is_cut_is_all_of_it_and_each_file_begins_with_a_sentence(count: int) -> None:
    plan = sound.prompts()
    parts = sound.cut(plan, count)
    assert len(parts) == count
    assert tuple(piece for part in parts for piece in part.pieces) == plan.pieces
    assert all(isinstance(part.pieces[0], Say) for part in parts)
    assert max(len(said(part)) for part in parts) - min(len(said(part)) for part in parts) <= 1


@pytest.mark.parametrize("count", [0, 51])
def test_more_files_than_sentences_there_are_not(count: int) -> None:
    with pytest.raises(ValueError, match="50 sentences"):
        sound.cut(sound.prompts(), count)


def test_files_and_their_words() -> None:
    plan = Plan((Say("en/vm-goodbye"), Pause(0.5), Say("en/tt-allbusy"), Pause(0.25)))
    made = sound.made("two", sound.cut(plan, 2))
    assert made.texts == (speech.clip("en/vm-goodbye").text, speech.clip("en/tt-allbusy").text)
    assert made.duration == pytest.approx(seconds(plan), abs=0.001)
    assert 0 < made.speech < made.duration - 0.7
