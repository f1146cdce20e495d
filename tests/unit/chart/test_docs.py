"""docs/model-cache.md names every reason that the code can give, and every example that the chart has."""

from __future__ import annotations

import re

from tests.unit.chart.conftest import EXAMPLES, ROOT
from transcription_operator import access, volume_trouble

PAGE = (ROOT / "docs" / "model-cache.md").read_text()


def first_cells(heading: str) -> set[str]:
    """What stands in backticks in the first column of the tables under a heading."""
    section = PAGE[PAGE.index(f"\n## {heading}\n") :]
    section = section[: section.find("\n## ", 4)] if "\n## " in section[4:] else section
    rows = (line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def test_every_reason_of_a_volume_has_a_line():
    assert {*volume_trouble.REASONS, access.NOT_READY, access.CHANGED} == {
        reason for reason in first_cells("Trouble") if reason.startswith("Volume") and reason not in DOWNLOADS
    }


DOWNLOADS = {"VolumeFull", "VolumeReadOnly"}
"""Reasons of a download, and not of a pod that waits for a volume."""


def test_every_example_has_a_line():
    assert {name.removesuffix(".yaml") for name in first_cells("Setting up a volume")} == set(EXAMPLES)
