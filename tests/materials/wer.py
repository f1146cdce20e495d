"""Word error rate: the share of words that were left out, put in or replaced.

Before they are compared, both texts are brought to one form: lower case; accents, punctuation and everything in
brackets dropped; an apostrophe and a hyphen part words; numbers up to twenty as words in the language; `mr` and
`mrs` written out.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np

_NUMBERS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis "
    "diecisiete dieciocho diecinueve veinte",
    "fr": "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dixsept "
    "dixhuit dixneuf vingt",
}
_TITLES = {"mr": "mister", "mrs": "missus"}


def words(text: str, language: str = "en") -> list[str]:
    """Return a text's words in the form in which they are compared."""
    text = re.sub(r"\[.*?\]|\(.*?\)", " ", text)
    letters = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    numbers = _NUMBERS.get(language, "").split()
    found = []
    for word in re.findall(r"\w+", letters):
        if language == "en" and word in _TITLES:
            found.append(_TITLES[word])
        elif word.isascii() and word.isdigit() and int(word) < len(numbers):
            found.append(numbers[int(word)])
        else:
            found.append(word)
    return found


def distance(expected: list[str], heard: list[str]) -> int:
    """Return how many words have to be left out, put in or replaced to turn one into the other."""
    every = {word: index for index, word in enumerate({*expected, *heard})}
    columns = np.array([every[word] for word in heard], dtype=np.int64)
    steps = np.arange(len(heard) + 1)
    row = steps.copy()
    for index, word in enumerate(expected, start=1):
        replaced = row[:-1] + (columns != every[word])
        left_out = row[1:] + 1
        row = np.concatenate([[index], np.minimum(replaced, left_out)])
        row = np.minimum.accumulate(row - steps) + steps  # words put in
    return int(row[-1])


def word_error_rate(expected: str, heard: str, language: str = "en") -> float:
    """Return the word error rate of what was heard; 0 is perfect, and more than 1 is possible."""
    reference = words(expected, language)
    if not reference:
        raise ValueError("nothing is expected, so there is no rate of errors")
    return distance(reference, words(heard, language)) / len(reference)
