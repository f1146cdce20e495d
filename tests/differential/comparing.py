"""Where two results differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Seconds that starts and ends may lie apart: one step of Whisper's timestamps. (Their difference is not exact.)
SECONDS = 0.0201
#: By how much probabilities and their logarithms may differ.
PROBABILITY = 1e-3


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


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Differences:
    """Language, segments, text and tokens are equal; times and probabilities are near."""
    result = Differences()
    result.same("language", ours["language"], theirs["language"])
    result.same("text", ours["text"], theirs["text"])
    result.same("segments", len(ours["segments"]), len(theirs["segments"]))
    for mine, other in zip(ours["segments"], theirs["segments"], strict=False):
        _segments(result, f"segment {other['id']}", mine, other)
    return result


def _segments(result: Differences, where: str, mine: dict[str, Any], other: dict[str, Any]) -> None:
    result.same(f"{where} fields", sorted(mine), sorted(other))
    for name in ("id", "seek", "text", "tokens", "temperature"):
        result.same(f"{where} {name}", mine[name], other[name])
    for name in ("start", "end"):
        result.near(f"{where} {name}", mine[name], other[name], SECONDS)
    for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
        result.near(f"{where} {name}", mine[name], other[name], PROBABILITY)
    words = mine.get("words", []), other.get("words", [])
    result.same(f"{where} words", [word["word"] for word in words[0]], [word["word"] for word in words[1]])
    for word, twin in zip(*words, strict=False):
        for name in ("start", "end"):
            result.near(f"{where} word {word['word']} {name}", word[name], twin[name], SECONDS)
        result.near(f"{where} word {word['word']} probability", word["probability"], twin["probability"], PROBABILITY)


def agreed(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    """Segments at the beginning of both that do not differ."""
    count = 0
    for mine, other in zip(ours["segments"], theirs["segments"], strict=False):
        found = Differences()
        _segments(found, "", mine, other)
        if found:
            break
        count += 1
    return count
