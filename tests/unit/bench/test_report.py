"""A report keeps what it is not told to replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report


def test_a_table_keeps_its_columns() -> None:
    assert report.table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_a_part_is_added_at_the_end() -> None:
    first = report.replaced("", "one", "1")
    assert first == "<!-- begin one -->\n1\n<!-- end one -->\n"
    assert report.replaced(first, "two", "2") == first + "\n<!-- begin two -->\n2\n<!-- end two -->\n"


def test_only_the_part_is_replaced() -> None:
    text = "# Title\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nmore\n<!-- begin two -->\n2\n<!-- end two -->\n"
    assert report.replaced(text, "one", "new\n") == text.replace("old", "new")


def test_a_name_that_begins_like_another_is_another() -> None:
    text = report.replaced(report.replaced("", "base long", "1"), "base", "2")
    assert report.replaced(text, "base", "3").count("1") == 1
    assert "<!-- begin base -->\n3\n<!-- end base -->" in report.replaced(text, "base", "3")


def test_a_part_without_an_end_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="end one"):
        report.replaced("<!-- begin one -->\nfree text", "one", "1")


def test_a_name_cannot_end_the_mark() -> None:
    with pytest.raises(ValueError, match="name"):
        report.replaced("", "one --> two", "1")


def test_a_file_is_made_and_then_kept(tmp_path: Path) -> None:
    path = tmp_path / "results" / "report.md"
    report.replace(path, "one", "1")
    path.write_text("Read this.\n\n" + path.read_text("utf-8"), "utf-8")
    report.replace(path, "one", "2")
    assert path.read_text("utf-8") == "Read this.\n\n<!-- begin one -->\n2\n<!-- end one -->\n"


def test_a_file_elsewhere_begins_as_a_copy(tmp_path: Path) -> None:
    source, path = tmp_path / "report.md", tmp_path / "elsewhere" / "report.md"
    report.replace(source, "one", "1")
    report.replace(path, "two", "2", source)
    report.replace(path, "three", "3", source)
    assert path.read_text("utf-8") == report.replaced(
        report.replaced(source.read_text("utf-8"), "two", "2"), "three", "3"
    )
    assert "2" not in source.read_text("utf-8")
