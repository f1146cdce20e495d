"""A file cut at its silences, its windows decoded together: the fast way through, as a pure state machine.

Every window stands alone, so a file's windows fill a batch at once. Times are those of the file. What nobody says is
not decoded; what a window's text leaves out, although somebody speaks there, is decoded again on its own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from transcription_runner import prompts, words
from transcription_runner.options import TranscribeOptions
from transcription_runner.sequential import (
    SECONDS_PER_TOKEN,
    ends_with_one_stamp,
    is_silence,
    needs_fallback,
    segment_of,
    segments_of,
)
from transcription_runner.windows import (
    FRAMES_PER_SECOND,
    FRAMES_PER_TOKEN,
    WINDOW,
    Align,
    Cut,
    Decode,
    DecodingResult,
    Detect,
    Request,
    Response,
    Segment,
    TextCodec,
    WordTiming,
    likeliest,
)

Span = tuple[int, int]

# A pause up to this long stays in its window as it is; a longer one is left out between two pieces of a window, and
# one longer still ends the window: text from before and after it would share a segment.
_KEPT_PAUSE: Final = 100
_LONGEST_PAUSE: Final = 1000

# A window with more room than this takes in a part of the speech that follows, up to a pause that leaves no more than
# this of it; neither part may be shorter than the other number.
_EMPTY: Final = 300
_SHORTEST: Final = 200

# What a window's text leaves out at its end is decoded again if there is this much of it.
_LEFT_OUT: Final = 120

# A window whose text ends sooner than this is not decoded again: it would lead nowhere.
_ONWARD: Final = 100


def pack(
    spans: Iterable[Span], quietest: Callable[[int, int], int], breath: Callable[[int, int], int | None]
) -> list[Cut]:
    """Windows of at most 30 s over all spans of speech, each moment of them once and in order.

    spans: (start, end) in frames, apart and in order. breath: the best pause between two frames, or None, to cut speech
    at that does not fit. quietest: the best frame between two frames, for speech that goes on for longer than a window
    without a pause.
    """
    cuts: list[Cut] = []
    pieces: list[Span] = []
    size = 0
    left = deque(spans)
    while left:
        start, end = left.popleft()
        pause = start - pieces[-1][1] if pieces else 0
        kept = pause if pause <= _KEPT_PAUSE else 0
        room = WINDOW - size - kept if pause <= _LONGEST_PAUSE else 0
        if end - start > room:
            cut = _part(start, end, room, breath)
            if cut is None and pieces:
                cuts.append(Cut(tuple(pieces)))
                pieces, size = [], 0
                left.appendleft((start, end))
                continue
            if cut is None:
                # In the last third of the window, so that it is full; what is left over is not too short either.
                last = min(start + WINDOW, end - WINDOW // 6)
                cut = min(max(quietest(last - WINDOW // 3, last), start + 1), start + WINDOW)
            left.appendleft((cut, end))
            end = cut
        if pieces and kept == pause:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
        size += kept + end - start
    if pieces:
        cuts.append(Cut(tuple(pieces)))
    return cuts


def _part(start: int, end: int, room: int, breath: Callable[[int, int], int | None]) -> int | None:
    """Where a span may be cut so that its first part fills the room; None where that is little, or nobody pauses."""
    first, last = start + max(_SHORTEST, room - _EMPTY), min(start + room, end - _SHORTEST)
    return breath(first, last) if room > _EMPTY and first < last else None


@dataclass(slots=True)
class _Window:
    """A window on its way: the rung of the temperature ladder it is on, and its segments once they are there."""

    cut: Cut
    language: str | None
    rung: int = 0
    segments: list[Segment] = field(default_factory=list)


class Batched:
    """One file, its windows in any order. A Machine."""

    def __init__(
        self,
        options: TranscribeOptions,
        codec: TextCodec,
        *,
        frames: int,
        cuts: Sequence[Cut],
        language: str | None,
        prompt_length: int = 223,
    ) -> None:
        """Begin a file of `frames` frames with the windows of `pack`. language: None has it detected."""
        self.language = language
        self._options = options
        self._codec = codec
        self._frames = frames
        prompt = codec.encode(" " + options.initial_prompt.strip()) if options.initial_prompt else []
        hotwords, _ = prompts.hotword_tokens(codec, options.hotwords, prompt_length)
        self._prompt = prompts.join(hotwords, prompt, (), prompt_length)
        self._queue: deque[_Window] = deque(_Window(cut, language) for cut in cuts)
        self._out: dict[Request, _Window] = {}
        self._finished: list[_Window] = []
        self._detect: Detect | None = None
        # Without a window for which it would be asked, the language of the silence is.
        self._each = options.multilingual and bool(cuts)
        if language is None and not self._each:
            first = cuts[0] if cuts else Cut(((0, WINDOW),))
            self._detect = Detect(first)
        self._detecting = self._detect is not None

    @property
    def done(self) -> bool:
        """Whether every window is finished."""
        return not (self._queue or self._out or self._detecting)

    @property
    def position(self) -> int:
        """Frames dealt with: those of the windows that are still to come are not."""
        open_ = sum(window.cut.size for window in (*self._queue, *self._out.values()))
        return max(0, self._frames - open_)

    def requests(self) -> Iterable[Request]:
        """The language first; then any number of windows."""
        if self._detecting:
            if self._detect is not None:
                request, self._detect = self._detect, None
                yield request
            return
        while self._queue:
            window = self._queue.popleft()
            yield self._ask(window)

    def take(self, request: Request, response: Response) -> None:
        """The answer to a request."""
        if isinstance(request, Detect) and request not in self._out:
            self.language = likeliest(response)
            self._detecting = False
            return
        window = self._out.pop(request)
        if isinstance(request, Detect):
            window.language = likeliest(response)
            self.language = self.language or window.language
            self._queue.appendleft(window)
            return
        if isinstance(response, DecodingResult):
            self._decoded(window, response)
        elif isinstance(response, list):
            self._aligned(window, response)

    @property
    def segments(self) -> Sequence[Segment]:
        """None before the end: they come in any order."""
        return ()

    def result(self) -> dict[str, Any]:
        """openai-whisper's JSON."""
        segments: list[Segment] = []
        text = []
        for window in sorted(self._finished, key=lambda each: each.cut.start):
            text.append(self._codec.decode([token for each in window.segments for token in each["tokens"]]))
            segments += window.segments
        if self._each:
            self.language = self._longest()
        numbered = [{"id": number, **segment} for number, segment in enumerate(segments)]
        return {"text": "".join(text), "segments": numbered, "language": self.language}

    def _longest(self) -> str | None:
        """The language that most is said in."""
        spoken: Counter[str] = Counter()
        for window in self._finished:
            spoken[window.language or ""] += window.cut.size
        return max(spoken, key=spoken.__getitem__, default=self.language)

    def _ask(self, window: _Window) -> Request:
        request: Request
        language = window.language if self._each else self.language
        if window.segments:
            tokens = words.text_tokens(window.segments, self._codec.eot)
            request = Align(window.cut, tuple(token for each in tokens for token in each), language)
        elif self._each and language is None:
            request = Detect(window.cut)
        else:
            temperature = self._options.temperature[window.rung]
            request = Decode(window.cut, self._prompt, language, temperature)
        self._out[request] = window
        return request

    def _decoded(self, window: _Window, result: DecodingResult) -> None:
        options = self._options
        if needs_fallback(result, options) and window.rung + 1 < len(options.temperature):
            window.rung += 1
            self._queue.appendleft(window)
            return
        if is_silence(result, options):
            return
        segments, rest = window_segments(self._codec, result, window.cut)
        if rest is not None:
            self._queue.appendleft(_Window(rest, None if self._each else window.language))
        window.segments = [
            segment for segment in segments if segment["text"].strip() and segment["start"] != segment["end"]
        ]
        if options.word_timestamps and window.segments:
            self._queue.appendleft(window)
        elif window.segments:
            self._finish(window)

    def _aligned(self, window: _Window, timings: list[WordTiming]) -> None:
        options = self._options
        words.add_words(
            window.segments,
            timings,
            words.text_tokens(window.segments, self._codec.eot),
            offset=0.0,
            last_speech=0.0,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )
        self._finish(window)

    def _finish(self, window: _Window) -> None:
        """From times of the window to times of the file."""
        for segment in window.segments:
            segment["seek"] = window.cut.start
            if self._each:
                segment["language"] = window.language
            for part in (segment, *segment.get("words", ())):
                start = window.cut.to_file(part["start"] * FRAMES_PER_SECOND, first=True)
                end = window.cut.to_file(part["end"] * FRAMES_PER_SECOND)
                part["start"] = round(start / FRAMES_PER_SECOND, 2)
                part["end"] = round(max(start, end) / FRAMES_PER_SECOND, 2)
        self._finished.append(window)


def window_segments(codec: TextCodec, result: DecodingResult, cut: Cut) -> tuple[list[Segment], Cut | None]:
    """A window's segments in seconds of the window, and what of its audio must be decoded again."""
    tokens, begin = result.tokens, codec.timestamp_begin
    segments, _ = segments_of(codec, result, 0, cut.size)
    stamps = [token >= begin for token in tokens]
    pairs = [i for i in range(1, len(tokens)) if stamps[i] and stamps[i - 1]]
    if not pairs and stamps[:1] == [True]:
        # Whisper lets a lone segment begin with its window; what it wrote is closer.
        segments[0]["start"] = min((tokens[0] - begin) * SECONDS_PER_TOKEN, segments[0]["end"])
    stop = cut.size
    if ends_with_one_stamp(result, codec):
        stop = (tokens[-1] - begin) * FRAMES_PER_TOKEN
    elif pairs:
        tail = tokens[pairs[-1] :]
        stamp = (tail[0] - begin) * FRAMES_PER_TOKEN
        if result.complete and any(token < codec.eot for token in tail) and stamp < cut.size:
            # The window ends at a pause, so text without an end of its own ends with the window.
            seconds = stamp / FRAMES_PER_SECOND, cut.size / FRAMES_PER_SECOND
            segments.append(segment_of(codec, result, 0, *seconds, tail))
        else:
            stop = stamp
    rest = cut.after(stop) if stop >= _ONWARD else None
    return segments, rest if rest is not None and rest.size >= _LEFT_OUT else None
