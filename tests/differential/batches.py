"""Many files in one batch against each of them alone: text and tokens must be equal, bit for bit.

What is sampled too: the random numbers of a window are its own, whatever it shares a batch with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.differential.comparing import differences
from tests.differential.hearing import samples
from tests.differential.options import OPTIONS
from tests.differential.recordings import RECORDINGS
from tests.differential.running import Outcome, options_of
from transcription_runner.engine import Engine
from transcription_runner.transcribe import transcribe_many

#: Short ones of every kind, for a level that has little time.
FEW = ("dashwood", "one word", "cards", "babble", "very fast", "hiss")
#: Some with a second window, whose prompt is the text before, beside others without a prompt.
CONTEXTS = ("one word", "a bit over 30 s", "cards")


def compare(
    engine: Engine, model: str, asking: str, sizes: Sequence[int], recorded: Sequence[str] = tuple(RECORDINGS)
) -> Iterator[Outcome]:
    """Transcribe recordings with so many windows in a batch, and each alone.

    An outcome's evidence says whether all numbers are equal to the last bit too (`exact`).
    """
    alone = {name: _said(engine, asking, 1, [name])[name] for name in recorded}
    for size in sizes:
        for name, said in _said(engine, asking, size, recorded).items():
            found = differences(said, alone[name]).found
            verdict = "different" if found else "equal"
            exact = {"exact": int(said == alone[name])}
            yield Outcome(model, f"{name} / {asking}", verdict, found=found, evidence=exact, together=size)


def _said(engine: Engine, asking: str, size: int, recorded: Sequence[str]) -> dict[str, Any]:
    """Results by name. All files of a batch share the options, so clips are those of the shortest."""
    asked = OPTIONS[asking]
    paths = {RECORDINGS[name].path(): name for name in recorded}
    seconds = min(len(samples(path)) / 16_000 for path in paths)
    options = options_of({**asked.of("en", seconds), "batch_size": size})
    return {paths[outcome.path]: outcome.result for outcome in transcribe_many(engine, paths, options)}
