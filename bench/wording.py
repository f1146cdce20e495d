"""Words in the form in which word errors are counted: OpenAI's own normaliser's, as for the figures told of Whisper."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _normalizer(language: str) -> Any:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    return EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()


def words(text: str, language: str = "en") -> list[str]:
    """A text's words: in English "I'm" is "i am", "colour" is "color", "five zero zero" is "500"."""
    return str(_normalizer(language)(text)).split()
