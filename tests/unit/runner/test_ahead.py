"""Reading ahead: in order, bounded, each error at its place, and no thread left behind."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch

from tests.differential.comparing import differences
from tests.materials import recordings
from transcription_runner import errors
from transcription_runner.ahead import Ahead, Stopped
from transcription_runner.options import TranscribeOptions
from transcription_runner.threads import one_thread
from transcription_runner.transcribe import transcribe_many

GREEDY = TranscribeOptions(language="en", beam_size=None, best_of=None, temperature=0.0, batch_size=2)


def threads_ahead():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead-")]


def test_results_come_in_the_order_of_the_items_whoever_is_ready_first():
    """The first item is finished last: its work waits for the others'."""
    others = threading.Barrier(4)

    def work(item, place):
        if item < 4:
            others.wait(60)
        return item * item

    ahead = Ahead(range(40), work, threads=4, most=4)
    assert list(ahead) == [(item, item * item) for item in range(40)]
    ahead.close()
    assert not threads_ahead()


def test_never_more_than_was_agreed_is_open():
    lock, is_open, most = threading.Lock(), 0, 0
    full = threading.Event()

    def work(item, place):
        nonlocal is_open, most
        with lock:
            is_open += 1
            most = max(most, is_open)
            if is_open == 3:
                full.set()
        return item

    ahead = Ahead(itertools.count(), work, threads=8, most=3)
    assert next(ahead) == (0, 0)
    with lock:
        is_open -= 1
    for item in range(1, 50):
        full.wait(60)  # as far ahead as it may be
        full.clear()
        assert next(ahead) == (item, item)
        with lock:
            is_open -= 1
            if is_open == 3:
                full.set()
    ahead.close()
    assert most <= 4, "three ahead, and the one that was taken and is not counted off yet"


def test_an_items_own_error_is_handed_over_and_others_end_it():
    def work(item, place):
        if item == 1:
            raise KeyError(item)
        if item == 3:
            raise ZeroDivisionError
        return item

    ahead = Ahead(range(9), work, threads=2, most=4, errors=(KeyError,))
    assert next(ahead) == (0, 0)
    item, error = next(ahead)
    assert (item, type(error)) == (1, KeyError)
    assert next(ahead) == (2, 2)
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    ahead.close()
    assert not threads_ahead()


def test_what_the_items_themselves_raise_comes_at_its_place():
    def items():
        yield "a"
        raise OSError("gone")

    ahead = Ahead(items(), lambda item, place: item, threads=3, most=4)
    assert next(ahead) == ("a", "a")
    with pytest.raises(OSError, match="gone"):
        next(ahead)
    assert list(ahead) == []
    ahead.close()


def test_a_consumer_that_stops_ends_the_threads_and_drops_what_is_left():
    dropped, working = [], threading.Event()

    def work(item, place):
        if item == 3:
            working.set()
            place.wait(lambda: False)  # for ever, were it not stopped
        return item

    ahead = Ahead(itertools.count(), work, threads=2, most=4, drop=dropped.append)
    assert next(ahead) == (0, 0)
    working.wait(60)
    ahead.close()
    assert not threads_ahead()
    assert set(dropped) <= {1, 2, 4, 5}
    assert {1, 2} <= set(dropped)
    with pytest.raises(StopIteration):
        next(ahead)


def test_work_that_waits_goes_on_when_it_is_next_or_nudged():
    free = threading.Event()

    def work(item, place):
        place.wait(free.is_set)
        return item

    ahead = Ahead(range(3), work, threads=3, most=3)
    assert next(ahead) == (0, 0), "the next in turn waits for nobody"
    free.set()
    ahead.nudge()
    assert list(ahead) == [(1, 1), (2, 2)]


def test_ready_tells_whether_one_would_have_to_wait():
    go = threading.Event()
    ahead = Ahead(range(1), lambda item, place: go.wait(60), threads=1, most=1)
    assert not ahead.ready
    go.set()
    assert next(ahead) == (0, True)
    assert list(ahead) == []
    assert ahead.ready


def test_a_stopped_place_says_so():
    places = []
    ahead = Ahead(range(1), lambda item, place: places.append(place), threads=1, most=1)
    list(ahead)
    places[0].check()
    ahead.close()
    with pytest.raises(Stopped):
        places[0].check()


def test_a_reader_computes_alone_and_nobody_else_does():
    """torch's number of threads is each thread's own, and readers leave that of the others as it was."""
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for begin in (one_thread, lambda: None):
            thread = threading.Thread(target=lambda begin=begin: (begin(), found.append(torch.get_num_threads())))
            thread.start()
            thread.join()
        assert (found, torch.get_num_threads()) == ([1, 2], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_transcripts_do_not_depend_on_reading_ahead(random_engine, monkeypatch, mode):
    """One reader and one file ahead, or four and many: the same transcripts in the same order, bad files apart."""
    files = [recordings.dashwood(), recordings.empty(), recordings.dashwood("flac"), recordings.not_audio()]
    options = TranscribeOptions(mode=mode, language="en", beam_size=None, best_of=None, temperature=0.0, batch_size=2)
    found = []
    for readers in (1, 4):
        monkeypatch.setattr("transcription_runner.transcribe.readers_for", lambda _, readers=readers: readers)
        outcomes = list(transcribe_many(random_engine, files, options))
        found.append({each.path: each for each in outcomes})
        assert len(outcomes) == len(files)
        assert sum(each.error is not None for each in outcomes) == 2
        assert not threads_ahead()
    one, four = found
    for path in files:
        assert str(one[path].error) == str(four[path].error)
        if one[path].error is None:
            # Which windows are computed together may differ, and with it the last digit.
            assert differences(one[path].result, four[path].result).found == []


def test_who_stops_in_the_middle_leaves_nothing_running(random_engine):
    outcomes = transcribe_many(random_engine, itertools.repeat(recordings.dashwood()), GREEDY)
    assert next(outcomes).result is not None
    assert threads_ahead()
    outcomes.close()
    assert not threads_ahead()


def test_an_error_of_the_engine_ends_the_readers(random_engine, monkeypatch):
    def full(_):
        raise errors.OutOfMemory("full")

    monkeypatch.setattr(random_engine, "encode", full)
    with pytest.raises(errors.OutOfMemory):
        list(transcribe_many(random_engine, itertools.repeat(recordings.dashwood()), GREEDY))
    assert not threads_ahead()
