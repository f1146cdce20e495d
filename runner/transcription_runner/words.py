"""When each word was said, and what that says about a window. Pure: the attention comes from elsewhere.

Timings come out of a path through the attention of some heads (see alignment.py); here they become openai-whisper's
words: punctuation joined to its word, stretched words cut back, segments fitted to their words, and, if asked for,
text dropped that looks made up and stands in silence.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from transcription_runner.windows import FRAMES_PER_SECOND, Segment, WordTiming

Word: TypeAlias = dict[str, Any]

_SENTENCE_ENDS: Final = ".。!！?？"
_PUNCTUATION: Final = "\"'“¿([{-\"'.。,，!！?？:：”)]}、"


def text_tokens(segments: Sequence[Segment], eot: int) -> list[list[int]]:
    """The text of each segment as tokens, without timestamps."""
    return [[token for token in segment["tokens"] if token < eot] for segment in segments]


def merge_punctuation(timings: list[WordTiming], prepend: str, append: str) -> None:
    """Join marks to the words that they belong to, in place; what was joined is left empty."""
    following = len(timings) - 1
    for index in range(len(timings) - 2, -1, -1):
        word = timings[index]
        if word.word.startswith(" ") and word.word.strip() in prepend:
            timings[following].word = word.word + timings[following].word
            timings[following].tokens = word.tokens + timings[following].tokens
            word.word, word.tokens = "", []
        else:
            following = index
    before = 0
    for index in range(1, len(timings)):
        word = timings[index]
        if not timings[before].word.endswith(" ") and word.word in append:
            timings[before].word += word.word
            timings[before].tokens = timings[before].tokens + word.tokens
            word.word, word.tokens = "", []
        else:
            before = index


def add_words(
    segments: Sequence[Segment],
    timings: list[WordTiming],
    tokens: Sequence[Sequence[int]],
    *,
    offset: float,
    last_speech: float,
    prepend: str,
    append: str,
) -> None:
    """Give each segment its `words`, and fit its start and end to them. In place.

    timings: of all words of the window. tokens: each segment's text. offset: the window's beginning, last_speech: the
    end of the last word before it, both in seconds.
    """
    lengths = [timing.end - timing.start for timing in timings if timing.end != timing.start]
    median = min(0.7, statistics.median(lengths)) if lengths else 0.0
    longest = median * 2
    if lengths:
        _shorten_at_sentence_ends(timings, longest)
    merge_punctuation(timings, prepend, append)
    remaining = iter(timings)
    for segment, text in zip(segments, tokens, strict=True):
        words: list[Word] = []
        seen = 0
        while seen < len(text) and (timing := next(remaining, None)) is not None:
            if timing.word:
                words.append(_word(timing, offset))
            seen += len(timing.tokens)
        if words:
            _shorten_after_pause(words, last_speech, median, longest)
            _fit(segment, words, median)
            last_speech = segment["end"]
        segment["words"] = words


def _word(timing: WordTiming, offset: float) -> Word:
    return {
        "word": timing.word,
        "start": round(offset + timing.start, 2),
        "end": round(offset + timing.end, 2),
        "probability": timing.probability,
    }


def _shorten_at_sentence_ends(timings: list[WordTiming], longest: float) -> None:
    """No word at the end or the beginning of a sentence reaches far into the pause between."""
    for before, word in itertools.pairwise(timings):
        if word.end - word.start > longest:
            if word.word in _SENTENCE_ENDS:
                word.end = word.start + longest
            elif before.word in _SENTENCE_ENDS:
                word.start = word.end - longest


def _shorten_after_pause(words: list[Word], last_speech: float, median: float, longest: float) -> None:
    """The first two words after a pause do not reach far into it."""
    first = words[0]
    second = words[1] if len(words) > 1 else None
    if first["end"] - last_speech <= median * 4:
        return
    too_long = first["end"] - first["start"] > longest
    if not too_long and not (second and second["end"] - first["start"] > longest * 2):
        return
    if second and second["end"] - second["start"] > longest:
        first["end"] = second["start"] = max(second["end"] / 2, second["end"] - longest)
    first["start"] = max(0, first["end"] - longest)


def _fit(segment: Segment, words: list[Word], median: float) -> None:
    """The segment begins and ends with its words, unless its own times say that a word is too long."""
    first, last = words[0], words[-1]
    if segment["start"] < first["end"] and segment["start"] - 0.5 > first["start"]:
        first["start"] = max(0, min(first["end"] - median, segment["start"]))
    else:
        segment["start"] = first["start"]
    if segment["end"] > last["start"] and segment["end"] + 0.5 < last["end"]:
        last["end"] = max(last["start"] + median, segment["end"])
    else:
        segment["end"] = last["end"]


@dataclass(frozen=True, slots=True)
class WindowView:
    """What follow_words needs to know of a window: frames of its beginning, its size and the file's;
    whether its text ends with a single timestamp; the end of the last word before it, in seconds."""

    seek: int
    size: int
    file: int
    one_stamp: bool
    last_speech: float

    @property
    def start(self) -> float:
        """Its beginning in seconds."""
        return self.seek / FRAMES_PER_SECOND

    @property
    def end(self) -> float:
        """Where a whole window would end, in seconds."""
        return (self.seek + 3000) / FRAMES_PER_SECOND


def follow_words(
    segments: list[Segment], window: WindowView, following: int, threshold: float | None
) -> tuple[list[Segment], int, float, bool]:
    """What the words' times change: segments, the frame to go on at, the end of the last word, whether to drop all.

    threshold: seconds of silence around text that looks made up from which it is dropped; None keeps all.
    """
    end = _end(segments)
    if not window.one_stamp and end is not None and end > window.start:
        following = round(end * FRAMES_PER_SECOND)
    if threshold is not None:
        if not window.one_stamp and end is not None and end > window.start and window.end - end <= threshold:
            following = window.seek + window.size
        first = next((segment for segment in segments if segment["words"]), None)
        if first is not None and _is_odd(first):
            gap = first["start"] - window.start
            if gap > threshold:  # what comes first may be made up: begin again where it begins
                return [], window.seek + round(gap * FRAMES_PER_SECOND), window.last_speech, True
        segments, following = _without_made_up(segments, window, following, threshold)
        end = _end(segments)
    return segments, following, window.last_speech if end is None else end, False


def _without_made_up(
    segments: list[Segment], window: WindowView, following: int, threshold: float
) -> tuple[list[Segment], int]:
    """Segments up to the first that looks made up and has silence, or more of its kind, before and after it."""
    before = window.last_speech
    for index, segment in enumerate(segments):
        if not segment["words"]:
            continue
        if _is_odd(segment):
            later = next((each for each in segments[index + 1 :] if each["words"]), None)
            next_start = later["words"][0]["start"] if later else window.start + window.size / FRAMES_PER_SECOND
            silence_before = (
                segment["start"] - before > threshold
                or segment["start"] < threshold
                or segment["start"] - window.start < 2.0
            )
            silence_after = (
                next_start - segment["end"] > threshold
                or (later is not None and _is_odd(later))
                or window.end - segment["end"] < 2.0
            )
            if silence_before and silence_after:
                following = round(max(window.start + 1, segment["start"]) * FRAMES_PER_SECOND)
                if window.file / FRAMES_PER_SECOND - segment["end"] < threshold:
                    following = window.file
                return segments[:index], following
        before = segment["end"]
    return segments, following


def _end(segments: Sequence[Segment]) -> float | None:
    """The end of the last word; without words, of the last segment."""
    last: float | None = next((segment["words"][-1]["end"] for segment in reversed(segments) if segment["words"]), None)
    if last is None and segments:
        last = segments[-1]["end"]
    return last


def _is_odd(segment: Segment) -> bool:
    """Whether a segment's first words are so improbable, short or long that it may be made up."""
    words = [word for word in segment["words"] if word["word"] not in _PUNCTUATION][:8]
    score = sum(_oddness(word) for word in words)
    return score >= 3 or score + 0.01 >= len(words)


def _oddness(word: Word) -> float:
    length = word["end"] - word["start"]
    score = 1.0 if word["probability"] < 0.15 else 0.0
    if length < 0.133:
        score += (0.133 - length) * 15
    if length > 2.0:
        score += length - 2.0
    return score
