"""Where the time goes: accounting by a clock that the test moves."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from tests.materials import recordings
from transcription_runner import profile
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe_many


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(clock):
    return profile.Profile(clock=clock)


def test_a_stage_has_its_own_time_without_that_of_the_stages_in_it(run, clock):
    run.begin(profile.VAD)
    clock.now += 1
    run.begin(profile.DECODE)
    clock.now += 10
    run.end()
    clock.now += 2
    run.end()
    clock.now += 5
    report = run.report()
    assert (report.seconds("vad"), report.seconds("decode"), report.wall) == (3, 10, 18)
    assert [(line.name, line.calls) for line in report.lines] == [("decode", 1), ("vad", 1)]


def test_threads_add_up_and_the_engine_is_busy_once(run, clock):
    """Two threads in the engine's stages at the same time: the seconds of both, and the wall's once."""
    entered, leave = threading.Barrier(2), threading.Event()

    def work():
        run.begin(profile.ENCODER)
        entered.wait()
        leave.wait()
        run.end()

    thread = threading.Thread(target=work)
    clock.now += 2
    thread.start()
    entered.wait()
    run.begin(profile.DECODER)
    clock.now += 4
    run.end()
    clock.now += 1
    leave.set()
    thread.join()
    clock.now += 3
    run.begin(profile.ENCODER)
    clock.now += 2
    run.end()
    clock.now += 8
    report = run.report()
    assert (report.busy, report.span, report.wall) == (7, 10, 20)
    (encoder,) = (line for line in report.lines if line.name == "encoder")
    assert (encoder.seconds, encoder.calls, encoder.threads) == (7, 2, 2)
    assert report.seconds("decoder") == 4


def test_what_a_stage_raises_ends_it(clock):
    with profile.profiling() as run:
        with pytest.raises(ZeroDivisionError), profile.stage(profile.WRITE):
            raise ZeroDivisionError
        with profile.stage(profile.VAD):
            pass
    assert [line.name for line in run.report().lines] == ["vad", "write"]


def test_only_the_making_of_items_counts(run, clock, monkeypatch):
    monkeypatch.setattr(profile, "_current", run)

    def items():
        for item in "ab":
            clock.now += 3
            yield item

    for _ in profile.each(profile.DECODE, items()):
        clock.now += 100
    assert run.report().seconds("decode") == 6


def test_a_device_is_waited_for_at_both_ends_of_the_engines_stages_alone(run, clock):
    def device():
        clock.now += 5

    run.synchronize_with(device)
    for name in (profile.VAD, profile.ENCODER):
        run.begin(name)
        clock.now += 1
        run.end()
    report = run.report()
    assert (report.seconds("vad"), report.seconds("encoder"), report.wall) == (1, 6, 12), "earlier work is not its own"


def test_the_first_time_counts(run, clock):
    for _ in range(2):
        clock.now += 1
        run.mark(profile.FIRST_WINDOW)
    assert run.report().moments == {profile.FIRST_WINDOW: 1}


def test_nothing_is_kept_where_nobody_asked():
    with profile.stage(profile.VAD):
        profile.mark(profile.FIRST_WINDOW)
    with profile.profiling() as run:
        pass
    assert run.report().lines == ()
    assert profile.current() is None


def test_a_process_knows_when_it_began():
    script = (
        "import time; before = time.monotonic(); from transcription_runner import profile;"
        "assert 0 <= before - profile.process_began(); assert profile.process_began() <= time.monotonic()"
    )
    before = profile.time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert profile.process_began() < before, "this process is older than its child"


def test_a_whole_run(random_engine):
    options = TranscribeOptions(mode="batched", language="en", beam_size=None, best_of=None, temperature=0.0)
    with profile.profiling() as run:
        list(transcribe_many(random_engine, [recordings.dashwood()], replace(options, word_timestamps=True)))
    report = run.report()
    assert {"decode", "loudness", "vad", "wait", "mel", "encoder", "decoder", "words"} == {
        line.name for line in report.lines
    }
    assert 0 < report.moments[profile.FIRST_WINDOW] < report.wall
    assert 0 < report.busy <= report.span
    assert all(f"\n{line.name} " in report.table() for line in report.lines)
    assert report.timings().keys() >= {"vad", "wall", "busy"}
