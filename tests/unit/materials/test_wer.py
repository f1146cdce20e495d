"""The word error rate, by examples."""

from __future__ import annotations

import pytest

from tests.materials.wer import distance, word_error_rate, words


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Mr. O'Neill: cold-hearted!", "en", ["mister", "o", "neill", "cold", "hearted"]),
        ("Press 1, or 20, or 555.", "en", ["press", "one", "or", "twenty", "or", "555"]),
        ("Où êtes-vous ? [rires]", "fr", ["ou", "etes", "vous"]),
        ("El número 3", "es", ["el", "numero", "tres"]),
        ("3", "de", ["3"]),
        ("", "en", []),
    ],
)
def test_words(text: str, language: str, expected: list[str]) -> None:
    assert words(text, language) == expected


@pytest.mark.parametrize(
    ("expected", "heard", "steps"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c d", "a x c d", 1),
        ("a b c d", "b c d", 1),
        ("a b", "a x y b", 2),
        ("a b c", "c b a", 2),
        ("k i t t e n", "s i t t i n g", 3),
    ],
)
def test_distance(expected: str, heard: str, steps: int) -> None:
    assert distance(expected.split(), heard.split()) == steps


def test_rate() -> None:
    assert word_error_rate("He was not an ill disposed young man", "he was not an ill-disposed young man.") == 0
    assert word_error_rate("one two three four", "1 2 for 4") == 0.25
    with pytest.raises(ValueError, match="nothing is expected"):
        word_error_rate("...", "you")
