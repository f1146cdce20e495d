"""The cache: built once, whole or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.materials import cache, pins


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_CACHE", str(tmp_path))


def test_the_folder_is_named_by_the_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.materials() == tmp_path / f"materials-{pins.digest()}"
    monkeypatch.delenv("TRANSCRIPTION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache.root() == Path("/elsewhere/transcription-operator")


def test_many_at_once_build_once() -> None:
    path = cache.materials() / "thing"
    built, got = [], []

    def build(target: Path) -> None:
        built.append(target)
        target.mkdir()
        time.sleep(0.2)
        (target / "file").write_text("whole")

    def ask() -> None:
        got.append((cache.build_once(path, build) / "file").read_text())

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(built), got) == (1, ["whole"] * 5)


def test_what_fails_or_is_killed_leaves_nothing_under_the_name() -> None:
    path = cache.materials() / "deep" / "thing.txt"

    def fail(target: Path) -> None:
        target.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.build_once(path, fail)
    assert not path.exists()
    killed = path.parent / ".building-thing.txt"
    killed.mkdir()
    (killed / "thing.txt").write_text("half")
    assert cache.build_once(path, lambda target: target.write_text("whole") and None).read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["thing.txt"]
