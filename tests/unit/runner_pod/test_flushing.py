"""What is written goes to the disk meanwhile, and a writer waits for a disk that does not keep up.

How fast the disk is, and that it fails, is made up at the one call that asks it.
"""

from __future__ import annotations

import errno
import os
import threading

import pytest

from transcription_runner import flushing
from transcription_runner.flushing import Flusher


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(flushing, "_STEP", 10)
    monkeypatch.setattr(flushing, "_AHEAD", 30)
    file = tmp_path / "part"
    file.write_bytes(bytes(100))
    return file


def test_a_writer_that_is_too_far_ahead_waits(path, monkeypatch):
    asked, go = threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        assert go.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    flusher = Flusher(path)
    assert flusher.advance(9) == 0.0
    assert not asked.is_set(), "little is left to the end"
    assert flusher.advance(20) == 0.0
    assert asked.wait(30), "the disk is asked while more comes"
    waited = []
    writer = threading.Thread(target=lambda: waited.append(flusher.advance(51)))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive(), "51 bytes are there, and none of them is on the disk"
    go.set()
    writer.join(30)
    assert waited[0] > 0
    assert flusher.finish() >= 0
    flusher.close()


def test_a_disk_that_fails_is_told_to_the_writer(path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    flusher = Flusher(path)
    with pytest.raises(OSError, match="No space left"):
        flusher.advance(10_000)
    with pytest.raises(OSError, match="No space left"):
        flusher.finish()
    flusher.close()


def test_what_was_there_before_and_a_restart_are_not_waited_for(path):
    flusher = Flusher(path, durable=100)
    assert flusher.advance(105) == 0.0
    flusher.restart()
    assert flusher.advance(9) == 0.0
    flusher.finish()
    flusher.close()
