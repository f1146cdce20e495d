"""Whole runs on random weights: every program is given as many tokens for the speech, and they are what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import random_model, whole
from bench.machine import Found
from bench.whole import HEAD, PROGRAMS, Took, Whole
from tests.materials import recordings

RUN = Whole(Path("model"), "tiny", ("a.wav", "b.wav"), 300.0, 100, 8, "cpu", "float32", 1)
MACHINE = Found("a machine", {"float32": 1e11}, 0.0, 0.0, {}, "2026-11-26")


def test_all_write_as_many_tokens_for_the_speech() -> None:
    # Two files with 300 s of speech each: 2,000 tokens.
    assert whole.tokens_each(RUN, 20, overlapping=False) == 100
    assert whole.tokens_each(RUN, 25, overlapping=False) == 80
    assert whole.tokens_each(RUN, 30, overlapping=True) == 100


def test_the_table_has_a_row_for_everybody() -> None:
    results = [
        ("ours", 8, Took(2.0, 1.0, 20, 100, 900.0, stages="wall 2.0")),
        ("transformers pipeline", 8, Took(5.0, 3.0, 30, 100, 1000.0)),
        ("faster-whisper batched", 8, Took(trouble="not installed (faster_whisper)")),
    ]
    text = whole.part(RUN, MACHINE, results, 900.0, "tiny")
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if "|" in line]
    ours, pipeline, _ = (dict(zip(HEAD, row, strict=False)) for row in rows[2:])
    assert (ours["× real time"], ours["ours is faster by"]) == ("450", "1.00")
    assert (pipeline["seconds"], pipeline["ours is faster by"]) == ("5.0", "2.50")
    assert "not installed (faster_whisper)" in text
    assert "wall 2.0" in text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A random tiny.en and two short files."""
    folder = tmp_path_factory.mktemp("whole")
    random_model.write("tiny.en", folder / "model")
    files = whole.written(recordings.dashwood(), folder, copies=2)
    return Whole(folder / "model", "tiny.en", tuple(map(str, files)), 6.0, 60, 2, "cpu", "float32", 1)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_run(program: str, run: Whole) -> None:
    took = whole.told(program, run, {})
    assert took.trouble is None
    assert took.windows == 2, "one of each file"
    assert took.each == (18 if program == "transformers pipeline" else 12)
    assert took.seconds > 0
    assert ("decoder" in took.stages) == (program == "ours")


def test_speech_is_less_than_the_file() -> None:
    assert 4.0 < whole.speech(recordings.dashwood()) < 7.3
