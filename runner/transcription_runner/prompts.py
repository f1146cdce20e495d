"""What a window's prompt is made of: the glossary, what is carried, and the text before. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from transcription_runner.windows import TextCodec

HOTWORDS_TOKENS: Final = 96
"""Tokens that a glossary may take of a prompt's 223: what is left holds the window before, some 100 tokens, whole."""


def hotword_tokens(codec: TextCodec, hotwords: str | None, prompt_length: int) -> tuple[list[int], str]:
    """The tokens of a glossary, and what of it had to be left out: its end, from the first name that does not fit.

    prompt_length: tokens that a prompt may have in all.
    """
    text = (hotwords or "").strip()
    if not text:
        return [], ""
    most = min(HOTWORDS_TOKENS, prompt_length // 2)
    whole = codec.encode(" " + text)
    if len(whole) <= most:
        return whole, ""
    kept: list[int] = []
    end = 0
    # A name of two words stays whole where the list has commas.
    for separator in re.finditer(r"\s*,\s*" if "," in text else r"\s+", text):
        tokens = codec.encode(" " + text[: separator.start()])
        if len(tokens) > most:
            break
        kept, end = tokens, separator.end()
    return (kept, text[end:]) if kept else (whole[:most], text)


def join(
    hotwords: Sequence[int], carried: Sequence[int], context: Sequence[int], prompt_length: int
) -> tuple[int, ...]:
    """A prompt: the glossary whole; then the end of what is carried; then as much of the text before as fits."""
    room = prompt_length - len(hotwords)
    kept = [*carried][-room:]
    room -= len(kept)
    return (*hotwords, *kept, *([*context][-room:] if room else ()))
