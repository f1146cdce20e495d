"""Both programs on one recording: what ours says against what openai-whisper says.

`python -m tests.unit.runner.differential` runs every case and prints what differs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.materials import recordings, weights
from transcription_runner.audio import AudioFile
from transcription_runner.engine import load_engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0}
BEAMS = {"temperature": 0.0}

#: Model, recording and options. Sampling is off: no two programs draw the same.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "as the command": ("base", "dashwood", {}),
    "words": ("base", "dashwood", {"word_timestamps": True, **GREEDY}),
    "french": ("base", "french", GREEDY),
    "translation": ("base", "spanish", {"task": "translate", **GREEDY}),
    "a wrong language": ("base", "two_languages", {"language": "en", **GREEDY}),
    "silence": ("base", "silence", GREEDY),
    "one language": ("tiny.en", "english", GREEDY),
    "beams": ("tiny.en", "english", BEAMS),
    "patience": ("tiny.en", "english", {"patience": 2.0, "length_penalty": 0.6, **BEAMS}),
    "words of beams": ("tiny.en", "english", {"word_timestamps": True, **BEAMS}),
    "clips and a prompt": (
        "tiny.en",
        "english",
        {"clip_timestamps": "3,9,12.5", "initial_prompt": "The number, please.", **GREEDY},
    ),
    "no context": ("tiny.en", "english", {"condition_on_previous_text": False, **GREEDY}),
    "a prompt carried": (
        "tiny.en",
        "english",
        {"initial_prompt": "Press the pound key. Agent login.", "carry_initial_prompt": True, **GREEDY},
    ),
    "music": ("tiny.en", "music", GREEDY),
    "noise": ("tiny.en", "noise", GREEDY),
    "long pauses": (
        "tiny.en",
        "with_long_pauses",
        {"word_timestamps": True, "hallucination_silence_threshold": 2.0, **GREEDY},
    ),
}

#: Those that the unit suite has time for; `python -m tests.unit.runner.differential` runs all.
QUICK = ("as the command", "words", "translation", "silence", "clips and a prompt", "words of beams", "long pauses")


@dataclass
class Differences:
    """Where two results differ; falsy if nowhere."""

    found: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.found)

    def same(self, what: str, ours: Any, theirs: Any) -> None:
        if ours != theirs:
            self.found.append(f"{what}: {ours!r} here, {theirs!r} there")

    def near(self, what: str, ours: float, theirs: float, most: float) -> None:
        if not abs(ours - theirs) <= most:
            self.found.append(f"{what}: {ours} here, {theirs} there")


def samples(path: Path) -> np.ndarray:
    """A recording as both programs hear it."""
    blocks = [block for _, block in AudioFile(path).blocks()]
    return np.concatenate(blocks).astype(np.float32) / 32768.0


def run(case: str, engine: Any, reference: Any) -> Differences:
    """Compare one of the cases."""
    _, recording, options = CASES[case]
    return compare(engine, reference, getattr(recordings, recording)(), **options)


def compare(engine: Any, reference: Any, recording: Path, **options: Any) -> Differences:
    """Run both with openai-whisper's own option names; beam_size and best_of are those of its command."""
    asked = {"beam_size": 5, "best_of": 5, **options}
    ours = transcribe(engine, recording, TranscribeOptions(**asked))
    temperature = asked.pop("temperature", TranscribeOptions().temperature)
    theirs = reference.transcribe(samples(recording), fp16=False, verbose=None, temperature=temperature, **asked)
    return differences(ours, theirs)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Differences:
    """Language, text and tokens equal; times within 0.02 s; probabilities within 1e-3."""
    result = Differences()
    result.same("language", ours["language"], theirs["language"])
    result.same("text", ours["text"], theirs["text"])
    result.same("segments", len(ours["segments"]), len(theirs["segments"]))
    for mine, other in zip(ours["segments"], theirs["segments"], strict=False):
        where = f"segment {other['id']}"
        result.same(f"{where} fields", sorted(mine), sorted(other))
        for name in ("id", "seek", "text", "tokens", "temperature"):
            result.same(f"{where} {name}", mine[name], other[name])
        for name in ("start", "end"):
            result.near(f"{where} {name}", mine[name], other[name], 0.0201)
        for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
            result.near(f"{where} {name}", mine[name], other[name], 1e-3)
        words = mine.get("words", []), other.get("words", [])
        result.same(f"{where} words", [word["word"] for word in words[0]], [word["word"] for word in words[1]])
        for word, twin in zip(*words, strict=False):
            for name in ("start", "end"):
                result.near(f"{where} word {word['word']} {name}", word[name], twin[name], 0.0201)
            result.near(f"{where} word {word['word']} probability", word["probability"], twin["probability"], 1e-3)
    return result


def main() -> int:
    """Run every case; the number of those that differ."""
    engines = {name: load_engine(weights.repository(name), device="cpu") for name in ("base", "tiny.en")}
    references = {name: weights.openai_whisper(name) for name in engines}
    wrong = 0
    for case, (model, *_) in CASES.items():
        found = run(case, engines[model], references[model]).found
        wrong += bool(found)
        print(f"{case}: {'; '.join(found) or 'equal'}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
