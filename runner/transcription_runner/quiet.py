"""Where a recording holds nothing at all: digital silence, every sample zero.

Of such a window a model is shown a constant, and openai-whisper has it write something all the same: "you", "Thank
you.", the sentence before once more; which then is the context of what follows.
"""

from __future__ import annotations

import bisect
from typing import Final

import numpy as np

from transcription_runner.audio import SAMPLE_RATE, Samples
from transcription_runner.mel import HOP

# Shorter stretches lie in no window as a whole, save for a file's last one, which then is decoded as ever.
_LEAST: Final = SAMPLE_RATE


class DigitalSilence:
    """Hears a recording (a Listener of Recording.scan), and knows its stretches of digital silence."""

    def __init__(self) -> None:
        """Begin a recording."""
        self._stretches: list[tuple[int, int]] = []
        self._since = 0
        self._end = -1

    def add(self, start: int, samples: Samples) -> None:
        """Samples, the first of which has index `start` in the file; a jump ends a stretch."""
        if start != self._end:
            self._note(self._end)
            self._since = start
        loud = np.flatnonzero(samples)
        if len(loud):
            self._note(start + int(loud[0]))
            gaps = np.flatnonzero(np.diff(loud) > _LEAST)
            self._stretches += [(start + int(loud[gap]) + 1, start + int(loud[gap + 1])) for gap in gaps]
            self._since = start + int(loud[-1]) + 1
        self._end = start + len(samples)

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """Those of a second and more, as the indices of their first samples and of the first after them."""
        last = [(self._since, self._end)] if self._end - self._since >= _LEAST else []
        return [*self._stretches, *last]

    def covers(self, start: int, end: int) -> bool:
        """Whether there is nothing but silence from one frame of 10 ms to another."""
        first, last = start * HOP, end * HOP
        before = bisect.bisect_right(self._stretches, first, key=lambda stretch: stretch[0])
        until = self._stretches[before - 1][1] if before else -1
        return last <= until or (self._since <= first and last <= self._end)

    def _note(self, end: int) -> None:
        if end - self._since >= _LEAST:
            self._stretches.append((self._since, end))
