"""The pages of docs/ name every reason that the code can give, and every example that the chart has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.chart.conftest import EXAMPLES, ROOT
from transcription_operator import access, decide, volume_trouble
from transcription_operator.whispermodel import decide as model_decide
from transcription_runner import errors
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


PLACE_OF_THE_REASON = {"model": 1, "started": 1, "fail": 0, "complete": 0, "ready": 0, "become": 2, "set": 2}
"""Which argument of a call is a condition's reason, by the name of what is called."""


def written(module: ModuleType) -> set[str]:
    """The reasons that a module writes down: in calls that set a condition, and in pairs of a reason and a message."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    found = set(decide._ADVICE) if module is decide else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            place = PLACE_OF_THE_REASON.get(node.func.attr)
            if place is not None and len(node.args) > place:
                found |= set(values(node.args[place], module))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            found |= set(values(node.value.elts[0], module))
    return {name for name in found if re.fullmatch(r"([A-Z][a-z]+)+", name)}


def values(node: ast.expr, module: ModuleType) -> Iterator[str]:
    """What an expression can be, as far as it is written down in its module."""
    match node:
        case ast.Constant(str(value)):
            yield value
        case ast.IfExp(_, one, other):
            yield from values(one, module)
            yield from values(other, module)
        case ast.Name(name) | ast.Subscript(ast.Name(name)) if hasattr(module, name):
            known = getattr(module, name)
            yield from known.values() if isinstance(known, dict) else [known]


@pytest.mark.parametrize(
    ("module", "page", "some"),
    [
        (decide, "troubleshooting.md", {"JobRefused", "VolumeNotBound", "ResultMismatch", "Repairing"}),
        (model_decide, "whispermodel.md", {"VolumeSlow", "InUse", "Evicted", "Repaired", "DryRun"}),
        (decide, "contracts.md", {"Unschedulable"}),
        (model_decide, "contracts.md", {"JobConflict"}),
    ],
)
def test_every_reason_that_the_operator_writes_is_explained(module, page, some):
    reasons = written(module)
    assert some <= reasons, "they are found in the code at all"
    text = (ROOT / "docs" / page).read_text()
    # These say that all is well, and need no advice.
    assert {name for name in reasons if f"`{name}`" not in text} <= {"Running", "Resumed"}


def test_every_class_of_failure_is_explained():
    classes = {
        each.error_class
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.RunnerError)
    }
    for page in ("troubleshooting.md", "contracts.md"):
        text = (ROOT / "docs" / page).read_text()
        assert {name for name in classes if f"`{name}`" not in text} == set(), page
