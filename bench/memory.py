"""Peak memory on hours of audio against minutes of it.

    python -m bench.memory [--hours 10] [--mode sequential batched] [--report bench/results/memory.md]

Each figure is the peak resident set of one whole `transcription-runner` process, model and libraries included, as the
kernel counts it. The long recording is the ten minutes over and over (its packets, so that it is made in seconds and
takes little room on the disk): eight sentences, and digital silence between, which costs next to nothing, since two
cores would otherwise need an afternoon for a figure that does not depend on it. Exit code 1 where the difference is
over the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.materials import containers, recordings, weights
from tests.materials.plans import Pause, Plan, Say, sentences

LIMIT_MB = 300
_MINUTES = 10
_SENTENCES = 8
_PLAIN = ("--beam_size", "None", "--temperature_increment_on_fallback", "None", "--language", "en")


@dataclass(frozen=True)
class Peak:
    """What one call of the command took."""

    what: str
    megabytes: float
    seconds: float
    processor: float
    """Seconds of the processor's time: what the call costs, whatever else runs."""


def ten_minutes() -> Path:
    """Ten minutes with a sentence now and then, as Opus in Matroska."""
    pieces: list[Say | Pause] = []
    left = _MINUTES * 60.0
    for clip in sentences("en")[:_SENTENCES]:
        pieces += [Say(clip.name), Pause(_MINUTES * 60 / _SENTENCES - clip.seconds)]
        left -= _MINUTES * 60 / _SENTENCES
    return recordings.made("sparse.mka", Plan((*pieces, Pause(left))), rate=48000, codec="libopus")


def peak(what: str, *words: object) -> Peak:
    """Run the command on these words and measure it. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "transcription_runner.cli", *map(str, words)]
        command += ["--model", str(weights.repository("tiny.en")), "-o", folder, "-f", "json", "--verbose", "False"]
        begun = time.monotonic()
        process = subprocess.Popen([*command, *_PLAIN], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=said)
    used = usage.ru_utime + usage.ru_stime
    found = Peak(what, usage.ru_maxrss / 1000, time.monotonic() - begun, used)
    print(f"{found.what}: {found.megabytes:.0f} MB, {found.seconds:.0f} s ({used:.0f} s of CPU)", flush=True)
    return found


def main() -> int:
    """Measure, print a table, and say whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[10.0])
    parser.add_argument("--mode", nargs="+", default=["sequential", "batched"])
    parser.add_argument("--together", type=int, default=8, help="files of 29 minutes, decoded side by side; 0 for none")
    parser.add_argument("--report", type=Path, help="a Markdown file for the table")
    asked = parser.parse_args()
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        short = ten_minutes()
        for mode in asked.mode:
            little = peak(f"{mode}, {_MINUTES} min", short, "--mode", mode)
            rows.append((little, 0.0))
            for hours in asked.hours:
                long = containers.repeat(short, round(hours * 60 / _MINUTES), Path(folder) / "long.mka")
                much = peak(f"{mode}, {hours:g} h", long, "--mode", mode)
                rows.append((much, much.megabytes - little.megabytes))
                worst = max(worst, much.megabytes - little.megabytes)
            if asked.together:
                names = [Path(folder) / f"{number}.mka" for number in range(asked.together)]
                files = [containers.repeat(short, 3, name) for name in names]
                clips = ("--clip_timestamps", "0,1740")
                alone = peak(f"{mode}, 1 file of 29 min", files[0], *clips, "--mode", mode)
                rows.append((alone, 0.0))
                many = peak(f"{mode}, {len(files)} files of 29 min together", *files, *clips, "--mode", mode)
                rows.append((many, many.megabytes - alone.megabytes))
    table = ["| what | peak | more than the shorter | time | CPU time |", "|---|---|---|---|---|"]
    table += [
        f"| {row.what} | {row.megabytes:.0f} MB | {f'{more:+.0f} MB' if more else ''} | {row.seconds:.0f} s | "
        f"{row.processor:.0f} s |"
        for row, more in rows
    ]
    print("\n".join(table))
    if asked.report:
        text = asked.report.read_text("utf-8") if asked.report.exists() else ""
        asked.report.write_text(text.partition("\n| what")[0].rstrip() + "\n\n" + "\n".join(table) + "\n", "utf-8")
    return int(worst > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
