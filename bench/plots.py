"""Plots as SVG: text, so that git keeps their changes and not their copies.

    python -m bench.plots FILE.json…

draws what `lines` had to leave as figures, on a machine without matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]


def lines(
    path: Path, series: Mapping[str, Points], *, title: str, across: str, up: str, doubling: bool = False
) -> None:
    """One line with marks for each series. doubling: each step to the right is twice as much."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import matplotlib as mpl
    except ImportError:
        given = {"series": dict(series), "title": title, "across": across, "up": up, "doubling": doubling}
        path.with_suffix(".json").write_text(json.dumps(given), "utf-8")
        return
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
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    for left in map(Path, sys.argv[1:]):
        lines(left.with_suffix(".svg"), **json.loads(left.read_text("utf-8")))
