"""The bar on a terminal, the lines in a log."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from transcription_runner import progress
from transcription_runner.job import Watch, how_far
from transcription_runner.progress import Bar, Meter, stand_aside
from transcription_runner.transcribe import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))  # sys.stderr itself is pytest's
    monkeypatch.setattr(progress, "_drawn", None)
    return stream


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_how_far():
    assert how_far(62, 600, 5.38) == "1:02 of 10:00, 5.4 times real time, 1:40 left"
    assert how_far(3723, 0, 0) == "1:02:03"


def test_a_bar_with_speed_and_time_left_on_a_terminal(terminal):
    watch = Watch("/a/long/way/to/talk.mp3", None)
    watch(Progress(300, 600, 5.0))
    shown = terminal.getvalue()
    assert shown.startswith("\rtalk.mp3:  50%|")
    assert shown.rstrip().endswith("| 5:00 of 10:00, 5.0 times real time, 1:00 left")
    watch.close()
    assert terminal.getvalue().endswith("\r")
    assert watch.duration == 600


def test_a_long_name_leaves_room_for_the_bar(terminal):
    bar = Bar()
    bar.show("s3://bucket/" + "x" * 50 + ".mp3", 1, 2, "half")
    assert "\r…" + "x" * 19 + ".mp3:  50%|" in terminal.getvalue()
    bar.close()


def test_a_file_of_no_length(terminal):
    watch = Watch("talk.mp3", None)
    watch(Progress(0, 0, 0))
    watch.close()
    assert "talk.mp3" in terminal.getvalue()


def test_what_is_written_meanwhile_does_not_meet_the_bar(terminal):
    bar = Bar()
    bar.show("a.mp3", 1, 2, "half")
    terminal.truncate(0)
    terminal.seek(0)
    stand_aside()
    assert terminal.getvalue().strip() == ""
    assert terminal.getvalue().endswith("\r")
    bar.show("a.mp3", 2, 2, "all")
    assert "100%" in terminal.getvalue(), "it comes back at once"
    bar.close()
    bar.close()


def test_lines_in_a_log(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, "transcription_runner"):
        bar = Bar(every=15)
        for second in range(60):
            clock[0] = 1000.0 + second
            bar.show("talk.mp3", second, 60, how_far(second, 60, 1.0))
        bar.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"talk.mp3: 0:{second} of 1:00, 1.0 times real time, 0:{60 - second} left" for second in (15, 30, 45)
    ]
    assert sys.stderr.getvalue() == ""


def test_no_bar_in_a_pod(terminal):
    class Reporter:
        said = ()

        def progress(self, **values):
            self.said = values

    reporter = Reporter()
    watch = Watch("talk.mp3", reporter)
    watch(Progress(300, 600, 5.0))
    watch.close()
    assert terminal.getvalue() == ""
    assert reporter.said["processed"] == 300
    assert reporter.said["message"] == "5:00 of 10:00, 5.0 times real time, 1:00 left"


def test_a_download_is_a_bar(terminal, clock):
    meter = Meter(1000, what="talk.mp3")
    clock[0] += 1
    meter.add(500)
    assert " 50%|#####     | 500 bytes of 1.0 kB, 500 bytes/s, 0:01 left" in terminal.getvalue()
    stand_aside()
    assert terminal.getvalue().endswith(" \r")
