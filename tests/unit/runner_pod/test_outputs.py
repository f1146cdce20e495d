from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.runner_pod.conftest import RESULT
from transcription_runner.errors import OutputFailed
from transcription_runner.outputs import DurableCopy, check_writable, deliver, stem
from transcription_runner.writers import Layout

FACTS = {"duration": 1.5}


def test_a_durable_copy_is_found_by_the_same_input_alone(tmp_path):
    copy = DurableCopy(tmp_path / "a" / "b", "talk")
    written = copy.write(RESULT, FACTS, fingerprint="same")
    assert json.loads((tmp_path / "a" / "b" / "talk.json").read_bytes()) == RESULT
    found = copy.find("same")
    assert found is not None
    assert (found.data, found.result, found.facts, found.sha256) == (written.data, RESULT, FACTS, written.sha256)
    assert copy.find("other") is None
    assert DurableCopy(tmp_path, "talk").find("same") is None


def test_a_durable_copy_that_was_changed_is_none(tmp_path):
    copy = DurableCopy(tmp_path, "talk")
    copy.write(RESULT, FACTS, fingerprint="same")
    (tmp_path / "talk.json").write_text("{}")
    assert copy.find("same") is None
    (tmp_path / ".talk.receipt.json").write_text("{")
    assert copy.find("same") is None


def test_formats_lie_beside_it_and_nothing_else(tmp_path):
    copy = DurableCopy(tmp_path, "talk")
    copy.write_formats(RESULT, ["srt", "txt"], Layout())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.srt", "talk.txt"]
    assert (tmp_path / "talk.txt").stat().st_mode & 0o777 == 0o644


def test_very_long_names_are_cut_and_stay_apart():
    names = {stem("é" * 126 + ending) for ending in "ab"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 200 for name in names)
    assert stem("short.name") == "short.name"


def test_a_folder_as_output(tmp_path):
    assert deliver(str(tmp_path / "out"), {"a.json": b"{}"}) == {"a.json": str(tmp_path / "out" / "a.json")}
    deliver(f"file://{tmp_path}/out", {"b.json": b"{}"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "b.json"]


def test_any_fsspec_url_as_output():
    import fsspec

    deliver("memory://results/x", {"a.json": b"{}"})
    with fsspec.open("memory://results/x/a.json") as stream:
        assert stream.read() == b"{}"


def test_a_full_disk(tmp_path):
    """/dev/full says ENOSPC to every write, as a full disk does."""
    script = (
        "import pathlib, sys\n"
        "from transcription_runner import filesystem\n"
        "from transcription_runner.errors import OutputFailed\n"
        "try:\n"
        "    with open('/dev/full', 'wb', buffering=0) as stream: stream.write(b'x')\n"
        "except OSError as error:\n"
        "    print(filesystem.explain(error, pathlib.Path(sys.argv[1]), 'writing').message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "x")], capture_output=True, text=True)
    assert "No space left" in done.stdout
    assert "bytes are free" in done.stdout


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputFailed):
        check_writable(tmp_path / "file" / "below")
    with pytest.raises(OutputFailed, match="not a folder"):
        check_writable(tmp_path / "file")


def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch):
    copy = DurableCopy(tmp_path, "talk")
    copy.write({"text": "old", "segments": []}, FACTS, fingerprint="1")

    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputFailed, match="No space"):
        copy.write(RESULT, FACTS, fingerprint="2")
    assert json.loads((tmp_path / "talk.json").read_bytes())["text"] == "old"
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("durably", [True, False])
def test_the_disk_is_waited_for_where_that_was_asked(tmp_path, monkeypatch, durably):
    waited = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(fsync(descriptor)))
    written = DurableCopy(tmp_path, "talk", durably=durably).write(RESULT, FACTS, fingerprint=None)
    assert (tmp_path / "talk.json").read_bytes() == written.data
    assert bool(waited) is durably
