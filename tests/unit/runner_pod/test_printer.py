"""What `--verbose True` prints, and when."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.materials import recordings, tiny_random
from transcription_runner import job
from transcription_runner.printer import Printer
from transcription_runner.transcribe import Progress

ONE = {"start": 0.0, "end": 1.5, "text": " Hello."}
TWO = {"start": 1.5, "end": 3.25, "text": " World."}


def test_each_segment_once_as_it_comes(capsys):
    printer = Printer(detected=True)
    printer.so_far(None, [])
    assert capsys.readouterr().out == ""
    printer.so_far("en", [ONE])
    assert capsys.readouterr().out == "Detected language: English\n[00:00.000 --> 00:01.500]  Hello.\n"
    printer.so_far("en", [ONE, TWO])
    assert capsys.readouterr().out == "[00:01.500 --> 00:03.250]  World.\n"
    printer.whole({"language": "en", "segments": [ONE, TWO]})
    assert capsys.readouterr().out == ""


def test_files_one_after_another(capsys):
    printer = Printer(detected=True)
    for code, name in (("en", "English"), ("fr", "French")):
        printer.whole({"language": code, "segments": [ONE]})
        assert capsys.readouterr().out == f"Detected language: {name}\n[00:00.000 --> 00:01.500]  Hello.\n"


def test_a_language_that_was_given_is_no_news(capsys):
    Printer(detected=False).whole({"language": "en", "segments": [ONE]})
    assert "Detected" not in capsys.readouterr().out


def test_a_terminal_that_cannot_write_it_all(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    Printer(detected=False).whole({"language": "fr", "segments": [ONE | {"text": " Été."}]})
    assert raw.getvalue() == b"[00:00.000 --> 00:01.500]  ?t?.\n"


def test_a_reader_who_has_had_enough_does_not_stop_the_work(monkeypatch):
    class Closed(io.StringIO):
        tries = 0

        def write(self, text):
            self.tries += 1
            raise BrokenPipeError

    closed = Closed()
    monkeypatch.setattr(sys, "stdout", closed)
    printer = Printer(detected=False)
    printer.whole({"language": "en", "segments": [ONE, TWO]})
    printer.whole({"language": "en", "segments": [ONE]})
    assert closed.tries == 1


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_segments_reach_the_terminal_while_the_file_is_still_heard(run, tmp_path, monkeypatch, capsys, mode):
    """The real thing on a random model: what was printed by each step of progress."""
    seen: list[tuple[float, str]] = []
    watch = job.Watch.__call__

    def watched(self, progress: Progress):
        watch(self, progress)
        seen.append((progress.processed_seconds, capsys.readouterr().out))

    monkeypatch.setattr(job.Watch, "__call__", watched)
    done = run(
        recordings.english(),
        *("--model", tiny_random.tiny_random(), "-o", tmp_path / "out", "-f", "json", "--mode", mode),
        *("--temperature_increment_on_fallback", "None", "--beam_size", "None", "--language", "en"),
        *("--logprob_threshold", "None", "--no_speech_threshold", "None"),
        model=False,
    )
    assert done.code == 0, done.err
    segments = json.loads((tmp_path / "out" / "english.json").read_text())["segments"]
    printed = "".join(text for _, text in seen) + done.out
    assert printed.count(" --> ") == len(segments) > 1
    early = [text for seconds, text in seen if text and seconds < seen[-1][0]]
    assert bool(early) == (mode == "sequential")
