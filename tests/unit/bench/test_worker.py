"""Jobs in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import programs
from bench.programs import Job
from bench.worker import WorkerError, ask, call
from tests.materials import recordings


def job(program: programs.Program, model: Path, **more: object) -> Job:
    file = str(recordings.dashwood())
    return Job(program, str(model), "sequential", "greedy", (file,), file, english_only=True, **more)  # type: ignore[arg-type]


def test_a_run_of_ours_hears_the_words(whisper_tiny_en: Path) -> None:
    answer = ask(job("ours", whisper_tiny_en))
    assert (answer.missing, answer.failed) == (None, None)
    assert answer.texts == (recordings.transcript(recordings.dashwood()).text,)
    assert answer.seconds > 0
    assert answer.megabytes > 100


def test_what_a_program_cannot_do_is_missing(whisper_tiny_en: Path) -> None:
    answer = ask(job("ours", whisper_tiny_en, precision="int3"))
    assert answer.missing is not None
    assert "int3" in answer.missing


def test_what_goes_wrong_is_told_in_a_line(tmp_path: Path) -> None:
    answer = ask(job("ours", tmp_path / "nothing"))
    assert answer.failed is not None
    assert "there is no model here" in answer.failed


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(WorkerError, match="IndexError"):
        call("bench.synthetic", [], threads=1)


def test_a_wav_is_read_as_it_was_written() -> None:
    heard = programs.samples(recordings.dashwood())
    assert len(heard) / 16_000 == pytest.approx(recordings.transcript(recordings.dashwood()).duration)
    assert 0.05 < abs(heard).max() <= 1
