"""Prompts as token lists, with a tokenizer of one token a word."""

from __future__ import annotations

import pytest

from tests.unit.runner.scripted import Codec
from transcription_runner import errors
from transcription_runner.options import HOTWORDS_LENGTH, TranscribeOptions
from transcription_runner.prompts import HOTWORDS_TOKENS, hotword_tokens, join


def test_hotwords_that_fit_are_all_there():
    assert hotword_tokens(Codec(), " Digium,  Asterisk ", 223) == (Codec().encode("Digium, Asterisk"), "")
    assert hotword_tokens(Codec(), None, 223) == hotword_tokens(Codec(), "  ", 223) == ([], "")


def test_hotwords_that_are_too_many_lose_their_end_and_no_name_is_halved():
    names = [f"first{number} last{number}" for number in range(60)]
    tokens, left_out = hotword_tokens(Codec(), ", ".join(names), 223)
    assert len(tokens) == HOTWORDS_TOKENS == 96
    assert left_out == ", ".join(names[48:])
    tokens, left_out = hotword_tokens(Codec(), ", ".join(names), 25)
    assert (len(tokens), left_out) == (12, ", ".join(names[6:]))
    spaced, left_out = hotword_tokens(Codec(), " ".join(names), 223)
    assert (len(spaced), left_out) == (96, " ".join(names[48:]))


def test_one_name_that_is_too_long_is_cut():
    text = "a " * 200 + ", b"
    tokens, left_out = hotword_tokens(Codec(), text, 223)
    assert (tokens, left_out) == (Codec().encode(text)[:96], text)


def test_a_prompt_is_the_glossary_what_is_carried_and_the_end_of_the_text_before():
    assert join([1], [2, 3], [4, 5, 6], 5) == (1, 2, 3, 5, 6)
    assert join([1], [2, 3, 4], [5], 3) == (1, 3, 4)
    assert join([], [], [1, 2, 3], 2) == (2, 3)
    assert join([], [], [], 2) == ()


def test_hotwords_have_a_limit():
    TranscribeOptions(hotwords="x" * HOTWORDS_LENGTH)
    with pytest.raises(errors.Usage, match="hotwords may have 1024 characters, not 1025"):
        TranscribeOptions(hotwords="x" * (HOTWORDS_LENGTH + 1))
