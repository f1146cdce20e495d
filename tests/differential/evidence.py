"""Why a run differs: is it a tie that the last digits decide?

The two programs add the same numbers in another order, so what their encoders say is not equal to the last bit
(`distance`). Where two tokens, two beams or two paths are as good as equal, that decides. The evidence is
openai-whisper itself: the same run again, with its encoder's output changed by noise of that size. If it then says
what ours says, or leaves its own first result at the place where ours did, the difference is such a tie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.differential.comparing import agreed, differences
from tests.differential.options import Draws
from tests.differential.reference import EndlessError, Reference

#: The noise, as a part of the encoder's output: some units in the last place of a float32 (1.2e-7 of it).
NOISE: Final = 1e-6
_TRIES: Final = 5


@dataclass(frozen=True)
class Evidence:
    """What openai-whisper does when its numbers change in the last digits.

    same: runs, of those tried, that then say what ours says. apart: runs that leave openai-whisper's own result no
    later than ours does. tries: runs in all.
    """

    same: int
    apart: int
    tries: int

    @property
    def tie(self) -> bool:
        return bool(self.same or self.apart)


def look(
    reference: Reference,
    heard: NDArray[np.float32],
    asked: dict[str, Any],
    draws: Draws,
    *,
    ours: dict[str, Any],
    theirs: dict[str, Any] | None,
) -> Evidence:
    """Run openai-whisper with noise. theirs: None if it did not end."""
    same = apart = tries = 0
    # A first segment that differs is "apart" only by what is in it.
    here = agreed(ours, theirs) if theirs is not None else 0
    for seed in range(_TRIES):
        tries += 1
        try:
            with _noise(reference.model, seed):
                again = reference.say(heard, asked, draws)
        except EndlessError:
            continue
        if not differences(ours, again):
            same += 1
            break
        if theirs is not None and differences(again, theirs) and agreed(again, theirs) <= here:
            apart += 1
    return Evidence(same, apart, tries)


def distance(ours: Any, reference: Reference, mel: Tensor) -> float:
    """How far the two encoders' outputs lie apart: the root mean square, as a part of the output's own."""
    with torch.inference_mode():
        theirs = reference.model.encoder(mel)
        return float((ours.encode(mel) - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())


@contextlib.contextmanager
def _noise(model: Any, seed: int) -> Iterator[None]:
    chance = torch.Generator().manual_seed(seed)

    def disturb(_: Any, __: Any, output: Tensor) -> Tensor:
        return output * (1 + NOISE * torch.randn(output.shape, generator=chance))

    hook = model.encoder.register_forward_hook(disturb)
    try:
        yield
    finally:
        hook.remove()
