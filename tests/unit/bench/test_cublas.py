"""Which cuBLAS a process is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cublas import environment


@pytest.fixture(autouse=True)
def _no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")


def test_the_new_one_under_the_old_name(tmp_path: Path) -> None:
    libraries = tmp_path / "lib"
    libraries.mkdir()
    (libraries / "libcublas.so.13").write_bytes(b"new")
    for _ in range(2):
        found = environment(tmp_path / "scratch", [tmp_path / "none", libraries])
    assert found == {"LD_LIBRARY_PATH": f"{tmp_path / 'scratch'}:{libraries}:/elsewhere"}
    assert (tmp_path / "scratch" / "libcublas.so.12").read_bytes() == b"new"


def test_the_old_one_where_it_is(tmp_path: Path) -> None:
    for name in ("libcublas.so.13", "libcublas.so.12"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
    found = environment(tmp_path / "scratch", [tmp_path / "libcublas.so.13", tmp_path / "libcublas.so.12"])
    assert found == {"LD_LIBRARY_PATH": f"{tmp_path / 'libcublas.so.12'}:/elsewhere"}
    assert not (tmp_path / "scratch").exists()


def test_none_at_all(tmp_path: Path) -> None:
    assert environment(tmp_path / "scratch", [tmp_path]) == {}
