"""A recording as both programs hear it: the samples that ours decodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcription_runner.audio import SAMPLE_RATE, AudioFile
from transcription_runner.options import parse_clips

#: What ours reads before and after a clip, in seconds (`recording.py`).
_MARGIN = 0.05


def samples(path: Path) -> NDArray[np.float32]:
    """All of a file's samples, mono at 16 kHz, -1 to 1."""
    blocks = [block for _, block in AudioFile(path).blocks()]
    return np.concatenate(blocks).astype(np.float32) / 32768.0


def clips_alone(heard: NDArray[np.float32], clips: str | list[float]) -> NDArray[np.float32]:
    """The same with silence outside the clips.

    The log-mel's floor depends on the loudest moment: ours looks for it in the clips alone, since it reads no more
    (docs/differences.md). With silence around them openai-whisper does so too.
    """
    kept = np.zeros_like(heard)
    for start, end in parse_clips(clips):
        first = round(max(0.0, start - _MARGIN) * SAMPLE_RATE)
        last = len(heard) if end is None else round((end + _MARGIN) * SAMPLE_RATE)
        kept[first:last] = heard[first:last]
    return kept[:last]
