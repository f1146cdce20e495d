"""Word times from attention: some heads of the decoder look at the audio that a token stands for.

A second pass over the finished text records what those heads look at; dynamic time warping finds the path through it
that only goes forward. The pass runs for a batch of windows, and computes scores for those heads alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transcription_runner.network import Network
from transcription_runner.tokenizer import Tokenizer
from transcription_runner.windows import WordTiming

_TOKENS_PER_SECOND: Final = 50
_FILTER: Final = 7


@dataclass(frozen=True, slots=True)
class Text:
    """A window's text to be aligned: tokens without timestamps, its language, and the frames of audio there are."""

    tokens: tuple[int, ...]
    language: str | None
    task: str
    frames: int


@torch.inference_mode()
def align(
    network: Network, tokenizer: Tokenizer, heads: Sequence[tuple[int, int]], features: Tensor, texts: Sequence[Text]
) -> list[list[WordTiming]]:
    """The words of each text and their times in seconds of its window. features: (n, 1500, d) for n texts."""
    starts = [tokenizer.start(text.language, text.task) for text in texts]
    tokens = [
        (*start, tokenizer.no_timestamps, *text.tokens, tokenizer.eot)
        for start, text in zip(starts, texts, strict=True)
    ]
    hidden, scores = network.align(features, tokens, heads)
    results: list[list[WordTiming]] = []
    for row, (start, text) in enumerate(zip(starts, texts, strict=True)):
        if not text.tokens:
            results.append([])
            continue
        length = len(tokens[row])
        logits = network.logits(hidden[row, len(start) : len(start) + len(text.tokens)])
        chosen = torch.tensor(text.tokens, device=logits.device)[:, None]
        probabilities = logits[:, : tokenizer.eot].softmax(-1).gather(1, chosen)[:, 0].tolist()
        matrix = _matrix(scores[row, :, :length, : text.frames // 2])[len(start) : -1]
        path = warp(-matrix.double().cpu().numpy())
        results.append(_words(tokenizer, text, path, probabilities))
    return results


def _matrix(scores: Tensor) -> Tensor:
    """What the heads agree on. scores: (heads, tokens, frames), raw; returns (tokens, frames)."""
    weights = scores.softmax(-1)
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    return _smooth((weights - mean) / deviation).mean(0)


def _smooth(x: Tensor) -> Tensor:
    """A running median along the last dimension, mirrored at the ends."""
    half = _FILTER // 2
    if x.shape[-1] <= half:
        return x
    padded = functional.pad(x, (half, half), mode="reflect")
    return padded.unfold(-1, _FILTER, 1).sort()[0][..., half]


def _words(
    tokenizer: Tokenizer,
    text: Text,
    path: tuple[NDArray[np.int64], NDArray[np.int64]],
    probabilities: Sequence[float],
) -> list[WordTiming]:
    words, word_tokens = tokenizer.split_to_words([*text.tokens, tokenizer.eot], text.language)
    if len(word_tokens) <= 1:
        return []
    rows, frames = path
    # The frame at which the path first reaches each token.
    reached = frames[np.diff(rows, prepend=rows[0] - 1).astype(bool)] / _TOKENS_PER_SECOND
    timings = []
    first = 0
    for word, tokens in zip(words[:-1], word_tokens[:-1], strict=True):
        last = first + len(tokens)
        timings.append(
            WordTiming(
                word=word,
                tokens=tokens,
                start=float(reached[first]),
                end=float(reached[last]),
                probability=float(np.mean(probabilities[first:last])),
            )
        )
        first = last
    return timings


def warp(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest path from one corner of a matrix to the other that never goes back: its rows and its columns.

    Works along diagonals, whose cells do not depend on one another: a few numpy calls for each.
    """
    rows, columns = cost.shape
    # Cell (i, j) of diagonal d = i + j is kept at index i; row and column 0 are the border.
    total = np.full((rows + columns + 1, rows + 1), np.inf, np.float32)
    came_from = np.full((rows + columns + 1, rows + 1), -1, np.int8)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        both = total[diagonal - 2, i - 1]
        down = total[diagonal - 1, i - 1]
        right = total[diagonal - 1, i]
        origin = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        best = np.choose(origin, (both, down, right))
        total[diagonal, i] = cost[i - 1, diagonal - i - 1] + best
        came_from[diagonal, i] = origin
    return _trace(came_from, rows, columns)


def _trace(came_from: NDArray[np.int8], i: int, j: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    path = []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        step = 2 if i == 0 else 1 if j == 0 else came_from[i + j, i]
        if step != 2:
            i -= 1
        if step != 1:
            j -= 1
    found = np.array(path[::-1], dtype=np.int64)
    return found[:, 0], found[:, 1]
