"""The same random numbers for both programs, so that what they sample can be compared.

openai-whisper draws from torch's generator, ours from numbers that belong to the window. Here both are given the same:
candidate c at step s of any window has number (c, s) of one table, and takes the first token at which the
probabilities, summed up in the vocabulary's order, exceed it. With `Draws.OFF` both take the likeliest token. All else
of the ladder, the candidates and the choice among them is the programs' own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from tests.differential.options import Draws
from transcription_runner import choices, rows

_STEPS = 449
_CANDIDATES = 64


def numbers() -> Tensor:
    """The table: (candidates, steps), from 0 to 1."""
    return torch.rand((_CANDIDATES, _STEPS), generator=torch.Generator().manual_seed(1))


@contextlib.contextmanager
def here(draws: Draws) -> Iterator[None]:
    """Ours draws these."""
    table = numbers()
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(rows, "noise", lambda seed, group: table[:group]))
        if draws is Draws.OFF:
            patches.enter_context(
                mock.patch.object(choices, "sample", lambda logits, temperature, noise, greedy: greedy)
            )
        yield


@contextlib.contextmanager
def there(draws: Draws) -> Iterator[None]:
    """openai-whisper draws these."""
    from whisper import decoding as theirs  # type: ignore[import-untyped]

    table = numbers()
    step = 0

    class Categorical:
        def __init__(self, logits: Tensor) -> None:
            self._logits = logits

        def sample(self) -> Tensor:
            nonlocal step
            if draws is Draws.OFF:
                return self._logits.argmax(-1)
            sums = self._logits.softmax(-1).double().cumsum(-1)
            wanted = table[: len(sums), step].double() * sums[:, -1]
            step += 1
            return (sums > wanted[:, None]).int().argmax(-1)

    def begin(_: object) -> None:
        nonlocal step
        step = 0

    with (
        mock.patch.object(theirs, "Categorical", Categorical),
        mock.patch.object(theirs.GreedyDecoder, "reset", begin),
    ):
        yield
