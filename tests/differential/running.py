"""One pair on one model: both programs' results, and what came of comparing them."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.differential import drawing, evidence
from tests.differential.comparing import differences
from tests.differential.hearing import samples
from tests.differential.product import Pair
from tests.differential.reference import EndlessError, Reference
from transcription_runner.engine import Engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe


@dataclass
class Outcome:
    """What came of one pair. verdict: `equal`, `tie`, `endless` (openai-whisper did not end) or `different`."""

    model: str
    pair: str
    verdict: str
    seconds: float = 0.0
    """Of sound."""
    took: float = 0.0
    """Seconds that ours needed."""
    found: list[str] = field(default_factory=list)
    evidence: dict[str, int] = field(default_factory=dict)
    together: int = 0
    """Windows at once, where the comparison is with the same file alone and not with openai-whisper."""


def read(log: Path | None) -> list[Outcome]:
    """The outcomes in a log; none if there is no log."""
    if log is None or not log.exists():
        return []
    return [Outcome(**json.loads(line)) for line in log.read_text("utf-8").splitlines()]


def options_of(asked: dict[str, Any]) -> TranscribeOptions:
    """Ours, of openai-whisper's."""
    return TranscribeOptions(**{"best_of": None, "beam_size": None, **asked})


def run(engine: Engine, reference: Reference, pair: Pair) -> Outcome | None:
    """Run both and compare; None where these options cannot be asked of this recording and model."""
    path = pair.recording.path()
    heard = samples(path)
    seconds = len(heard) / 16_000
    if not pair.asked.fits(seconds, engine.multilingual):
        return None
    asked = pair.asked.of(pair.recording.language, seconds)
    ours, took = _ours(engine, path, asked, pair)
    outcome = Outcome(reference.name, pair.name, "equal", seconds, took)
    try:
        theirs = reference.said(heard, asked, pair.asked.draws)
    except EndlessError:
        outcome.verdict = "endless"
        return outcome
    found = differences(ours, theirs)
    if found:
        seen = evidence.look(reference, heard, asked, pair.asked.draws, ours=ours, theirs=theirs)
        outcome.verdict = "tie" if seen.tie else "different"
        outcome.found, outcome.evidence = found.found, asdict(seen)
    return outcome


def remember(reference: Reference, pair: Pair, *, multilingual: bool) -> None:
    """Have openai-whisper's result of one pair in the cache: the slow part of a later `run`."""
    heard = samples(pair.recording.path())
    seconds = len(heard) / 16_000
    if pair.asked.fits(seconds, multilingual):
        with contextlib.suppress(EndlessError):
            reference.said(heard, pair.asked.of(pair.recording.language, seconds), pair.asked.draws)


def _ours(engine: Engine, path: Path, asked: dict[str, Any], pair: Pair) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    with drawing.here(pair.asked.draws):
        said = transcribe(engine, path, options_of(asked))
    return said, time.monotonic() - started
