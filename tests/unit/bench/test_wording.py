"""Words as they are compared."""

from __future__ import annotations

from bench.wording import words


def test_ways_of_writing_the_same_are_the_same() -> None:
    assert words("You're at extension five zero zero, colour!") == words("you are at extension 500 color")


def test_other_languages_keep_their_numbers() -> None:
    assert words("Ça, c'est l'été: 12.", "fr") == ["ça", "c", "est", "l", "été", "12"]
