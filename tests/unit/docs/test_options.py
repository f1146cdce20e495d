"""The page of options is what both programs say of themselves."""

from __future__ import annotations

from tests.docs import options
from transcription_runner import arguments


def test_the_page_is_not_stale():
    assert options.PAGE.read_text(encoding="utf-8") == options.page(), "run `python -m tests.docs.options`"


def test_every_other_default_is_explained():
    assert set(options.different_defaults()) <= set(options.DIFFERENT)


def test_what_is_explained_is_an_option_of_both():
    names = options.by_name(options.whispers()).keys() & options.by_name(arguments.transcription_parser({})).keys()
    assert set(options.DIFFERENT) <= names


def test_every_option_is_on_the_page():
    page = options.PAGE.read_text(encoding="utf-8")
    for parser in (options.whispers(), arguments.transcription_parser({})):
        assert all(f"`{name}`" in page for name in options.by_name(parser))
