"""Cold start: what the time from the process's start to the first window is spent on, against the plain pipeline.

    python -m bench.start [--model base] [--runs 5] [--report bench/results/start.md]

One sentence of 7 s, read by a person. Ours is the command with --profile; the other is transformers' pipeline as its
documentation has it. Runs alternate, each in a process of its own; the median counts. What is on the disk's cache
already is not read again: a first run of each is thrown away.
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
from pathlib import Path

from tests.materials import recordings, weights

# Given samples, since it has a program decode files (ffmpeg) that need not be installed.
PIPELINE = """
import sys, wave, numpy, transformers
samples = numpy.frombuffer(wave.open(sys.argv[2]).readframes(-1), "int16").astype("float32") / 32768
transformers.pipeline("automatic-speech-recognition", model=sys.argv[1])(samples)
"""


def ours(model: Path, audio: Path, folder: Path) -> dict[str, float]:
    """The stages of one run of the command, in seconds."""
    receipt = folder / "receipt"
    command = [sys.executable, "-m", "transcription_runner.cli", str(audio), "--model", str(model), "--profile"]
    command += ["-o", str(folder), "-f", "json", "--verbose", "False", "--mode", "batched", "--language", "en"]
    command += ["--beam_size", "None"]  # the pipeline is greedy too
    begun = time.monotonic()
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "TRANSCRIPTION_TERMINATION_LOG": str(receipt)}
    )
    whole = time.monotonic() - begun
    timings = json.loads(receipt.read_bytes())["timings"]
    return {name: float(seconds) for name, seconds in timings.items()} | {"process": whole}


def pipeline(model: Path, audio: Path) -> float:
    """Seconds of one run of the plain pipeline."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", PIPELINE, str(model), str(audio)], check=True, capture_output=True)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--report", type=Path, help="a Markdown file for the table")
    asked = parser.parse_args()
    model, audio = weights.repository(asked.model), recordings.dashwood()
    found: list[dict[str, float]] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        for run in range(asked.runs + 1):
            stages, seconds = ours(model, audio, Path(name)), pipeline(model, audio)
            print(f"ours {stages['process']:.2f} s, pipeline {seconds:.2f} s", flush=True)
            if run:
                found.append(stages)
                theirs.append(seconds)
    medians = {name: statistics.median(each.get(name, 0.0) for each in found) for name in found[0]}
    apart = ("first_window", "wall", "busy", "process", "transcribe", "total")
    lines = ["| what | seconds |", "|---|---|"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in medians.items() if name not in apart]
    lines.append(f"| from the process's start to the first window | {medians['first_window']:.2f} |")
    lines.append(f"| the whole process | {medians['process']:.2f} |")
    lines.append(f"| the plain pipeline's whole process | {statistics.median(theirs):.2f} |")
    lines.append(f"\nThe pipeline takes {statistics.median(theirs) / medians['process']:.2f} times as long.")
    print("\n".join(lines))
    if asked.report:
        text = asked.report.read_text("utf-8") if asked.report.exists() else "# Cold start\n"
        asked.report.write_text(text.partition("\n| what")[0].rstrip() + "\n\n" + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
