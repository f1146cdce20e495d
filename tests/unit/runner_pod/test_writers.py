"""Byte for byte what openai-whisper writes for the same segments."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper import utils

from transcription_runner.writers import FORMATS, Layout, render, timestamp

THEIRS = {
    "txt": utils.WriteTXT,
    "vtt": utils.WriteVTT,
    "srt": utils.WriteSRT,
    "tsv": utils.WriteTSV,
    "json": utils.WriteJSON,
}

times = st.floats(0, 20_000).map(lambda seconds: round(seconds, 2))
words = st.builds(
    lambda text, a, b: {"word": text, "start": min(a, b), "end": max(a, b), "probability": 0.5},
    st.text(alphabet=" abc,\tÉ->中.<", max_size=12),
    times,
    times,
)
segments = st.builds(
    lambda text, a, b, spoken: {"id": 0, "start": min(a, b), "end": max(a, b), "text": text, "words": spoken},
    st.text(alphabet=" ab->\tÉ中", max_size=30),
    times,
    times,
    st.lists(words, max_size=8),
)
limits = st.none() | st.integers(0, 30)


def theirs(result: dict, format_name: str, **options: object) -> bytes:
    stream = io.StringIO()
    THEIRS[format_name](".").write_result(result, stream, **(options if format_name in ("vtt", "srt") else {}))
    return stream.getvalue().encode()


@settings(max_examples=300, deadline=None)
@given(st.lists(segments, max_size=6), st.booleans(), limits, st.none() | st.integers(0, 4), limits, st.booleans())
def test_every_format_equals_whispers(found, with_words, width, count, per_line, highlight):
    if not with_words:
        found = [{key: value for key, value in segment.items() if key != "words"} for segment in found]
    result = {"text": "héllo 中", "segments": found, "language": "en"}
    options = {
        "max_line_width": width,
        "max_line_count": count,
        "max_words_per_line": per_line,
        "highlight_words": highlight,
    }
    for format_name in FORMATS:
        assert render(result, format_name, Layout(**options)) == theirs(result, format_name, **options)


@pytest.mark.parametrize("seconds", [0, 0.0005, 59.9995, 3599.9999, 3600, 359999.999])
def test_timestamps_equal_whispers(seconds):
    assert timestamp(seconds) == utils.format_timestamp(seconds)
    assert timestamp(seconds, hours=True, decimal=",") == utils.format_timestamp(seconds, True, ",")
