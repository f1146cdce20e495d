"""Engines in several processes, as several GPUs have them: here both are on the processor."""

from __future__ import annotations

import os
import signal

import pytest

from tests.differential.comparing import differences
from tests.materials import recordings, weights
from transcription_runner import errors
from transcription_runner.engine import load_engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.pool import Pool
from transcription_runner.transcribe import transcribe_many

FILES = ("dashwood", "english", "with_long_pauses", "noisy")


@pytest.fixture(scope="module")
def two():
    """An engine with a worker beside it."""
    engine = load_engine(weights.repository("tiny.en"), device="cpu", num_workers=2)
    yield engine
    for worker in engine.workers:
        worker.close()


@pytest.mark.parametrize("options", [{"mode": "batched"}, {"word_timestamps": True}], ids=["batched", "words"])
def test_two_processes_give_what_one_gives(two, tiny_en, monkeypatch, options):
    asked = TranscribeOptions(language="en", beam_size=None, best_of=None, batch_size=2, **options)
    files = [getattr(recordings, name)() for name in FILES]
    wanted = {each.path: each.result for each in transcribe_many(tiny_en, files, asked)}
    given = []
    give = Pool.give
    monkeypatch.setattr(Pool, "give", lambda self, task: (given.append(task.number), give(self, task))[1])
    found = {each.path: each.result for each in transcribe_many(two, files, asked)}
    assert found.keys() == wanted.keys()
    for path in files:
        assert differences(found[path], wanted[path]).found == [], path.name
    assert given, "the other process has had its part"


def test_a_worker_that_is_killed_is_an_error_with_a_hint():
    engine = load_engine(weights.repository("tiny.en"), device="cpu", num_workers=2)
    (worker,) = engine.workers
    os.kill(worker._child.process.pid, signal.SIGKILL)
    options = TranscribeOptions(language="en", mode="batched", beam_size=None)
    with pytest.raises(errors.Internal, match="ended before its time") as caught:
        list(transcribe_many(engine, [recordings.dashwood()], options))
    assert "--num_workers 1" in caught.value.hint


def test_what_a_worker_meets_while_loading_is_raised_here(tmp_path, tiny_en, monkeypatch):
    from transcription_runner import pool

    worker = pool.Worker(tmp_path / "nothing", {"device": "cpu"})
    with pytest.raises(errors.ModelMissing):
        Pool([worker], TranscribeOptions())
    worker.close()
