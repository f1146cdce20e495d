"""Time and memory against a recording's length: both must be what an hour's suggests.

    python -m bench.length [--hours 0.5 1 2 4 8 16 24] [--report bench/results/length.md]

Each row is one `transcription-runner` process (tiny.en, batched) on the ten minutes of bench/memory.py over and over.
A straight line is fitted to the times by least squares, each weighing by its own size; a row's deviation is from that
line. Exit code 1 where a deviation is over --tolerance, or the longest takes much more memory than the shortest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.machine import described
from bench.memory import LIMIT_MB, Peak, peak, ten_minutes
from tests.materials import containers


def line(hours: list[float], seconds: list[float]) -> tuple[float, float]:
    """Seconds at no length, and seconds for an hour: the line with the least sum of squared relative deviations."""
    weights = 1 / np.asarray(seconds)
    columns = np.stack([np.ones(len(hours)), np.asarray(hours)], axis=1)
    (base, slope), *_ = np.linalg.lstsq(columns * weights[:, None], np.ones(len(hours)), rcond=None)
    return float(base), float(slope)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 1, 2, 4, 8, 16, 24])
    parser.add_argument("--tolerance", type=float, default=0.1, help="share by which a time may deviate from the line")
    parser.add_argument("--report", type=Path, help="a Markdown file for the table")
    asked = parser.parse_args()
    hours = sorted(asked.hours)
    if len(hours) < 2:
        parser.error("a line needs two lengths")
    found: list[Peak] = []
    with tempfile.TemporaryDirectory() as folder:
        short = ten_minutes()
        for each in hours:
            long = containers.repeat(short, max(1, round(each * 6)), Path(folder) / "long.mka")
            found.append(peak(f"{each:g} h", long, "--mode", "batched"))
    base, slope = line(hours, [each.seconds for each in found])
    lines = ["| length | time | an hour | from the line | peak memory |", "|---|---|---|---|---|"]
    worst = 0.0
    for length, each in zip(hours, found, strict=True):
        deviation = each.seconds / (base + slope * length) - 1
        worst = max(worst, abs(deviation))
        lines.append(
            f"| {each.what} | {each.seconds:.1f} s | {each.seconds / length:.1f} s | {100 * deviation:+.1f}% "
            f"| {each.megabytes:.0f} MB |"
        )
    lines.append(f"\nThe line: {base:.1f} s and {slope:.2f} s an hour of audio; {described()}.")
    print("\n".join(lines))
    if asked.report:
        text = asked.report.read_text("utf-8") if asked.report.exists() else "# Time and memory against length\n"
        asked.report.write_text(text.partition("\n| length")[0].rstrip() + "\n\n" + "\n".join(lines) + "\n", "utf-8")
    return int(worst > asked.tolerance or found[-1].megabytes - found[0].megabytes > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
