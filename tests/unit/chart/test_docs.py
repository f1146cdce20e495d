"""docs/model-cache.md names every reason that the code can give, and every example that the chart has."""

from __future__ import annotations

import re

from tests.unit.chart.conftest import EXAMPLES, ROOT
from transcription_operator import access, volume_trouble
from transcription_runner.errors import Reason

PAGE = (ROOT / "docs" / "model-cache.md").read_text()


def first_cells(heading: str) -> set[str]:
    """What stands in backticks in the first column of the tables under a heading."""
    section = PAGE[PAGE.index(f"\n## {heading}\n") :]
    section = section[: section.find("\n## ", 4)] if "\n## " in section[4:] else section
    rows = (
        line.split("|")[1] for line in section.partition("### The whisper")[0].splitlines() if line.startswith("| `")
    )
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def test_every_reason_has_a_line():
    waiting = {*volume_trouble.REASONS, access.NOT_READY, access.CHANGED}
    assert first_cells("Trouble") == {*map(str, Reason), *waiting}


def test_every_example_has_a_line():
    assert {name.removesuffix(".yaml") for name in first_cells("Setting up a volume")} == set(EXAMPLES)
