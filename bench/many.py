"""Many short files in one process: what each costs beyond the encoder and the decoder.

    python -m bench.many [--files 1000] [--seconds 5] [--model base] [--report bench/results/many.md]

Two ways: the Python API (transcribe_many), and the command with all files as its arguments, which writes their JSON.
The overhead is the wall's time in which the engine had nothing to do, for each file: opening and hearing that the
engine had to wait for, the machines' steps, logs, writing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.machine import described
from tests.materials import containers, speech, weights
from tests.materials.plans import sentences

_PLAIN = ("--beam_size", "None", "--temperature_increment_on_fallback", "None", "--language", "en", "--mode", "batched")


def short_files(folder: Path, count: int, seconds: float) -> list[Path]:
    """Recordings of so many seconds, a person's sentences, each beginning at another place."""
    said = np.concatenate([clip.samples() for clip in sentences("en")[:40]])
    size = round(seconds * speech.RATE)
    paths = []
    for number in range(count):
        start = number * 7919 % (len(said) - size)
        paths.append(folder / f"{number:05d}.wav")
        containers.write(paths[-1], [said[start : start + size]])
    return paths


def by_api(model: Path, files: list[Path]) -> dict[str, float]:
    """Stages of the Python API, without the start."""
    from transcription_runner import profile
    from transcription_runner.engine import load_engine
    from transcription_runner.options import TranscribeOptions
    from transcription_runner.transcribe import transcribe_many

    engine = load_engine(model)
    options = TranscribeOptions(mode="batched", language="en", beam_size=None, best_of=None, temperature=0.0)
    with profile.profiling() as run:
        for outcome in transcribe_many(engine, files, options):
            if outcome.error is not None:
                raise outcome.error
        return run.report().timings()


def by_command(model: Path, files: list[Path], folder: Path) -> dict[str, float]:
    """Stages of the command from its first work for a file on: the start and the model's loading left out."""
    receipt = folder / "receipt"
    command = [sys.executable, "-m", "transcription_runner.cli", *map(str, files), "--model", str(model), *_PLAIN]
    command += ["-o", str(folder / "out"), "-f", "json", "--verbose", "False", "--profile"]
    begun = time.monotonic()
    environ = {**os.environ, "TRANSCRIPTION_TERMINATION_LOG": str(receipt)}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environ)
    whole = time.monotonic() - begun
    found = json.loads(receipt.read_bytes())["timings"]
    return found | {"wall": whole - found["start"] - found["load"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--model", default="base")
    parser.add_argument("--report", type=Path, help="a Markdown file for the table")
    asked = parser.parse_args()
    model = weights.repository(asked.model)
    lines = ["| way | a file | engine | overhead | of it waiting for sound | read in other threads | writing |"]
    lines.append("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = short_files(folder, asked.files, asked.seconds)
        for way, found in (("API", by_api(model, files)), ("command", by_command(model, files, folder))):
            each = {stage: 1000 * found.get(stage, 0.0) / len(files) for stage in ("wall", "busy", "wait", "write")}
            read = 1000 * sum(found.get(stage, 0.0) for stage in ("decode", "loudness", "vad")) / len(files)
            lines.append(
                f"| {way} | {each['wall']:.1f} ms | {each['busy']:.1f} ms | {each['wall'] - each['busy']:.1f} ms "
                f"| {each['wait']:.1f} ms | {read:.1f} ms | {each['write']:.1f} ms |"
            )
    lines.append(f"\n{asked.files} files of {asked.seconds:g} s, {asked.model}; {described()}.")
    print("\n".join(lines))
    if asked.report:
        text = asked.report.read_text("utf-8") if asked.report.exists() else "# Many short files\n"
        asked.report.write_text(text.partition("\n| way")[0].rstrip() + "\n\n" + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
