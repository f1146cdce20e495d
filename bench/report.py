"""Markdown: tables, and a report whose parts are replaced one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a `|` within a cell is written so that it stays there."""
    every = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every)


def replaced(text: str, name: str, part: str) -> str:
    """The report with this part in place of the one of the same name, or at its end; all else stays as it is."""
    if not re.fullmatch(r"[\w. ,()-]+", name):
        raise ValueError(f"{name!r} cannot be a part's name")
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    fresh = f"{begin}\n{part.strip()}\n{end}"
    if begin not in text:
        return (text.rstrip() + "\n\n" if text.strip() else "") + fresh + "\n"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the report has no {end!r}")
    return before + fresh + after


def replace(path: Path, name: str, part: str, source: Path | None = None) -> None:
    """The same in a file. Where there is none it is made, of `source` if that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path if path.exists() or source is None else source
    text = before.read_text("utf-8") if before.exists() else ""
    path.write_text(replaced(text, name, part), "utf-8")
