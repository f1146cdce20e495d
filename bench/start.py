"""Cold start: what the time from the process's start to the first window is spent on, against the plain pipeline.

    python -m bench.start [--model base] [--runs 5] [--report bench/results/start.md]

One sentence of 7 s, read by a person. Ours is the command with --profile; the other is transformers' pipeline as its
documentation has it. Runs alternate, each in a process of its own; the median counts. A first run of each is thrown
away: it reads what the others find in the disk's cache, and writes the bytecode that an installation comes with.
"CPU" is what a process used of all processors: on a busy machine that says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.machine import described
from bench.report import replace, table
from tests.materials import recordings, weights

# Given samples, since it has a program decode files (ffmpeg) that need not be installed.
PIPELINE = """
import sys, wave, numpy, transformers
samples = numpy.frombuffer(wave.open(sys.argv[2]).readframes(-1), "int16").astype("float32") / 32768
transformers.pipeline("automatic-speech-recognition", model=sys.argv[1])(samples)
"""


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock and of processors, and the stages that it told of."""

    wall: float
    cpu: float
    stages: dict[str, float]


def ours(model: Path, audio: Path, folder: Path) -> Run:
    """One run of the command."""
    receipt = folder / "receipt"
    command = [sys.executable, "-m", "transcription_runner.cli", str(audio), "--model", str(model), "--profile"]
    command += ["-o", str(folder), "-f", "json", "--verbose", "False", "--mode", "batched", "--language", "en"]
    command += ["--beam_size", "None"]  # the pipeline is greedy too
    wall, cpu = _timed(command, folder, TRANSCRIPTION_TERMINATION_LOG=str(receipt))
    return Run(wall, cpu, json.loads(receipt.read_bytes())["timings"])


def pipeline(model: Path, audio: Path, folder: Path) -> Run:
    """One run of the plain pipeline."""
    return Run(*_timed([sys.executable, "-c", PIPELINE, str(model), str(audio)], folder), {})


def _timed(command: list[str], folder: Path, **more: str) -> tuple[float, float]:
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), **more}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = os.times(), time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=environ)
    wall, after = time.monotonic() - begun, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--report", type=Path, help="a Markdown file for the table")
    asked = parser.parse_args()
    model, audio = weights.repository(asked.model), recordings.dashwood()
    found: list[Run] = []
    theirs: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        for run in range(asked.runs + 1):
            one, other = ours(model, audio, Path(name)), pipeline(model, audio, Path(name))
            print(f"ours {one.wall:.2f} s, pipeline {other.wall:.2f} s", flush=True)
            if run:
                found.append(one)
                theirs.append(other)
    text = "\n\n".join((*_tables(found, theirs), f"{asked.model}, {asked.runs} runs; {described()}."))
    print(text)
    if asked.report:
        replace(
            asked.report,
            "cold start",
            "# Cold start\n\n`python -m bench.start`: from nothing to a sentence of 7 s.\n\n" + text,
        )


_SIDE_BY_SIDE = ("start", "load", "fetch", "decode", "loudness", "vad", "wait", "mel", "encoder", "decoder", "write")


def _tables(found: list[Run], theirs: list[Run]) -> tuple[str, str, str]:
    """What a start is spent on, the two programs, and the ratios."""

    def median(name: str) -> float:
        return statistics.median(each.stages.get(name, 0.0) for each in found)

    rows = [(name, f"{median(name):.2f}") for name in _SIDE_BY_SIDE]
    rows.append(("from the process's start to the first window", f"{median('first_window'):.2f}"))
    programs = {
        "transcription-runner": (statistics.median(each.wall for each in found), [each.cpu for each in found]),
        "`import transformers; pipeline(…)`": (
            statistics.median(each.wall for each in theirs),
            [each.cpu for each in theirs],
        ),
    }
    both = [(name, f"{wall:.2f}", f"{statistics.median(cpu):.2f}") for name, (wall, cpu) in programs.items()]
    walls = statistics.median(other.wall / one.wall for one, other in zip(found, theirs, strict=True))
    cpus = statistics.median(other.cpu / one.cpu for one, other in zip(found, theirs, strict=True))
    return (
        table(("stage", "seconds"), rows),
        table(("the whole process", "seconds", "CPU seconds"), both),
        f"The pipeline takes {walls:.1f} times as long, and {cpus:.1f} times the CPU (medians of pairs).",
    )


if __name__ == "__main__":
    main()
