"""Plots are small text, the same for the same figures."""

from __future__ import annotations

from pathlib import Path

from bench import plots


def test_a_plot(tmp_path: Path) -> None:
    series = {"ours": [(1, 10.0), (2, 20.0), (16, 25.0)], "theirs": [(1, 9.0), (2, 11.0), (16, 12.0)]}
    files = [tmp_path / name for name in ("a.svg", "b.svg")]
    for file in files:
        plots.lines(file, series, title="base", across="windows at once", up="× real time", doubling=True)
    first, second = (file.read_text("utf-8") for file in files)
    assert first == second
    assert ">ours</text>" in first
    assert len(first) < 60_000
