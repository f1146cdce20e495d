"""Where a recording holds nothing at all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transcription_runner.audio import SAMPLE_RATE
from transcription_runner.mel import HOP
from transcription_runner.quiet import DigitalSilence


@given(
    stretches=st.lists(st.tuples(st.integers(0, 4 * SAMPLE_RATE), st.booleans()), max_size=6),
    block=st.sampled_from([700, 16_000, 100_000]),
    data=st.data(),
)
def test_it_knows_what_every_sample_says(stretches, block, data):
    sound = np.concatenate([np.full(size, loud, np.int16) for size, loud in stretches] or [np.zeros(0, np.int16)])
    heard = DigitalSilence()
    for start in range(0, len(sound), block):
        heard.add(start, sound[start : start + block])
    frames = len(sound) // HOP
    first = data.draw(st.integers(0, frames))
    last = data.draw(st.integers(first, frames))
    silent = not sound[first * HOP : last * HOP].any()
    if last - first >= SAMPLE_RATE // HOP:
        assert heard.covers(first, last) == silent
    elif heard.covers(first, last):
        assert silent, "a short window may go unnoticed, and no sound may"


def test_what_was_not_heard_is_no_silence():
    heard = DigitalSilence()
    second = np.zeros(SAMPLE_RATE, np.int16)
    heard.add(0, second)
    heard.add(3 * SAMPLE_RATE, second)
    assert heard.stretches == [(0, SAMPLE_RATE), (3 * SAMPLE_RATE, 4 * SAMPLE_RATE)]
    assert not heard.covers(0, 400)
