"""The encoder on a CPU beside CTranslate2's, interleaved in one process.

    python -m bench.cpu base ~/ctranslate2/base [--threads 2] [--rounds 5]

The folder holds CTranslate2's model of the same weights. Times are the least of the rounds, for one window, in ms; with
one thread they are the process's own time, which other programs disturb least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import ctranslate2
import torch

from tests.materials import recordings, weights
from transcription_runner.audio import AudioFile
from transcription_runner.engine import load_engine
from transcription_runner.recording import Recording
from transcription_runner.windows import Cut

KINDS = ("float32", "bfloat16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("base", "tiny.en"))
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    path = weights.repository(asked.model)
    engines = {
        kind: load_engine(path, device="cpu", compute_type=kind, threads=asked.threads)  # type: ignore[arg-type]
        for kind in KINDS
    }
    plain = load_engine(path, device="cpu", compute_type="float32", threads=asked.threads, pack=False)
    recording = Recording(AudioFile(recordings.english()), plain.mel)
    recording.scan([(0.0, None)])
    mel = plain.mel.windows([recording.sound(Cut(((0, 3000),)))])
    runs: dict[str, Callable[[], object]] = {"transformers float32": lambda: plain.encode(mel)}
    for kind, engine in engines.items():
        runs[f"ours {kind}"] = lambda engine=engine: engine.encode(mel)  # type: ignore[misc]
    for kind in ("float32", "int8"):
        theirs = ctranslate2.models.Whisper(asked.folder, device="cpu", compute_type=kind, intra_threads=asked.threads)
        view = ctranslate2.StorageView.from_array(mel.numpy())
        runs[f"CTranslate2 {kind}"] = lambda theirs=theirs, view=view: theirs.encode(view)  # type: ignore[misc]
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(asked.rounds):
        for name, run in runs.items():
            begun = clock()
            run()
            best[name] = min(best[name], clock() - begun)
    for name, seconds in best.items():
        print(f"{name:22s} {seconds * 1000:8.1f}")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
