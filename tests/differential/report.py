"""The suite's page: what came of the runs in its logs, and every difference, one by one."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from tests.differential.evidence import NOISE
from tests.differential.options import OPTIONS
from tests.differential.recordings import RECORDINGS
from tests.differential.running import Outcome

_VERDICTS = ("equal", "tie", "endless", "different")


def page(outcomes: Sequence[Outcome]) -> str:
    """What the outcomes say, as Markdown."""
    against = [outcome for outcome in outcomes if not outcome.together]
    together = [outcome for outcome in outcomes if outcome.together]
    parts = [_where(), _counts(against)]
    if together:
        parts.append(_together(together))
    parts += [_difference(outcome) for outcome in outcomes if outcome.verdict != "equal"] or ["No run differs."]
    return "\n\n".join(parts)


def _where() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("openai-whisper", "torch", "numpy"))
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, {versions}, float32 on the CPU."


def _counts(outcomes: Sequence[Outcome]) -> str:
    rows = ["| model | what | runs | recordings | options | equal | tie | endless | different |", "|---" * 9 + "|"]
    for (model, drawn), group in groupby(sorted(outcomes, key=_kind), key=_kind):
        each = list(group)
        count = Counter(outcome.verdict for outcome in each)
        names = [outcome.pair.split(" / ") for outcome in each]
        what = "of chance" if drawn else f"of {len(RECORDINGS)} × {len(OPTIONS)}"
        met = [len({name[place] for name in names}) for place in (0, 1)]
        numbers = [model, what, len(each), *met, *(count[verdict] for verdict in _VERDICTS)]
        rows.append("| " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(rows)


def _kind(outcome: Outcome) -> tuple[str, bool]:
    return outcome.model, outcome.pair.startswith("drawn ")


def _together(outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| model | options | windows at once | files | text, tokens, times equal | every bit equal |",
        "|---" * 6 + "|",
    ]
    for key, group in groupby(outcomes, key=lambda each: (each.model, each.pair.split(" / ")[1], each.together)):
        each = list(group)
        equal = sum(outcome.verdict == "equal" for outcome in each)
        exact = sum(outcome.evidence["exact"] for outcome in each)
        rows.append("| " + " | ".join(map(str, (*key, len(each), equal, exact))) + " |")
    return "\n".join(rows)


def _difference(outcome: Outcome) -> str:
    lines = [f"**{outcome.model}: {outcome.pair}**: {_why(outcome)}", ""]
    lines += [f"- `{each[:200]}`" for each in outcome.found[:3]]
    if len(outcome.found) > 3:
        lines.append(f"- and {len(outcome.found) - 3} more, most of which follow from the first")
    return "\n".join(lines).strip()


def _why(outcome: Outcome) -> str:
    if outcome.together:
        return f"not what it is alone, with {outcome.together} windows at once."
    if outcome.verdict == "endless":
        return "openai-whisper did not come to an end (docs/differences.md); ours did."
    seen = outcome.evidence
    says = f"with {NOISE:g} of noise on its encoder's output openai-whisper"
    if seen["same"]:
        return f"a tie: {says} says what ours says (at try {seen['tries']})."
    if seen["apart"]:
        return f"a tie: {says} leaves its own result there or before, {seen['apart']} times of {seen['tries']}."
    return f"not explained: {says} stays with its result, {seen['tries']} times."
