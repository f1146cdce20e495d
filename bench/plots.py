"""Plots as SVG: text, so that git keeps their changes and not their copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]


def lines(
    path: Path, series: Mapping[str, Points], *, title: str, across: str, up: str, doubling: bool = False
) -> None:
    """One line with marks for each series. doubling: each step to the right is twice as much."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    # Letters stay letters, and names do not change from run to run.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench"})
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    if doubling:
        axes.set_xscale("log", base=2)
        every = sorted({x for points in series.values() for x, _ in points})
        axes.set_xticks(every, [f"{x:g}" for x in every])
        axes.minorticks_off()
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
