"""openai-whisper's way through a file, as a pure state machine: window after window, each where the last one ended.

The machine asks for one thing at a time and gets its answer; what it decides (where to go on, what to repeat at a
higher temperature, what to leave out as silence) is whisper's, statement by statement, save for bounds that make it
end on any answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final

from transcription_runner import prompts, words
from transcription_runner.options import TranscribeOptions
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
    likeliest,
)

SECONDS_PER_TOKEN: Final = FRAMES_PER_TOKEN / FRAMES_PER_SECOND

# This many windows in a row that get on by less than so many frames in all, and the rest of the window is skipped:
# whisper would creep on like this for hours.
_CREEPING_WINDOWS: Final = 10
_CREEPING_FRAMES: Final = 100


class Sequential:
    """One file, in whisper's way. A Machine."""

    def __init__(
        self,
        options: TranscribeOptions,
        codec: TextCodec,
        *,
        frames: int,
        language: str | None,
        prompt_length: int = 223,
        silent: Callable[[int, int], bool] | None = None,
    ) -> None:
        """Begin a file of `frames` frames.

        language: None has it detected. prompt_length: tokens of context that a window can take. silent: whether the
        file holds nothing at all from one frame to another; such a window is not asked for, unless
        `no_speech_threshold` is None.
        """
        self.position = 0
        self.language = language
        self._options = options
        self._codec = codec
        self._frames = frames
        self._prompt_length = prompt_length
        self._silent = silent if options.no_speech_threshold is not None else None
        self._segments: list[Segment] = []
        self._tokens: list[int] = []
        self._initial: list[int] = []
        self._hotwords, _ = prompts.hotword_tokens(codec, options.hotwords, prompt_length)
        self._run = self._transcribe()
        self._request: Request | None = None
        self._handed_out = False
        self._advance(None)

    @property
    def done(self) -> bool:
        """Whether the file is at its end."""
        return self._request is None

    def requests(self) -> Iterable[Request]:
        """The one request that is open, if it was not handed out yet."""
        if self._request is None or self._handed_out:
            return ()
        self._handed_out = True
        return (self._request,)

    def take(self, request: Request, response: Response) -> None:
        """The answer to the open request."""
        if request is not self._request:
            raise ValueError("this request is not open")
        self._advance(response)

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments so far."""
        return self._segments

    def result(self) -> dict[str, Any]:
        """openai-whisper's JSON."""
        return {
            "text": self._codec.decode(self._tokens[len(self._initial) :]),
            "segments": self._segments,
            "language": self.language,
        }

    def _advance(self, response: Response | None) -> None:
        self._handed_out = False
        try:
            self._request = next(self._run) if response is None else self._run.send(response)
        except StopIteration:
            self._request = None

    def _transcribe(self) -> Generator[Request, Any, None]:
        options = self._options
        clips = clip_frames(options, self._frames)
        if self.language is None:
            # Silence after the end is part of what whisper detects the language from.
            first = clips[0][0]
            self.language = likeliest((yield Detect(Cut(((first, first + WINDOW),)))))
        if options.initial_prompt is not None:
            self._initial = self._codec.encode(" " + options.initial_prompt.strip())
            self._tokens.extend(self._initial)
        prompt_since = 0
        last_speech = 0.0
        creep = _Creep()
        for start, end in clips:
            seek = start
            while seek < end:
                self.position = seek
                size = min(WINDOW, self._frames - seek, end - seek)
                if self._silent is not None and self._silent(seek, seek + size):
                    seek += size
                    continue
                cut = Cut(((seek, seek + size),))
                result = yield from self._decode(cut, self._prompt(prompt_since))
                following = seek + size
                if not is_silence(result, options):
                    segments, following = segments_of(self._codec, result, seek, size)
                    if options.word_timestamps:
                        segments, following, last_speech, skip = yield from self._with_words(
                            cut, segments, result, following, last_speech
                        )
                        if skip:
                            seek = creep.onward(seek, following, size)
                            continue
                    self._add(segments)
                    if not options.condition_on_previous_text or result.temperature > 0.5:
                        prompt_since = len(self._tokens)
                seek = creep.onward(seek, following, size)
        self.position = self._frames

    def _prompt(self, since: int) -> tuple[int, ...]:
        """The context of the next window: as much of the text before as fits, after what is carried."""
        carried = self._initial if self._options.carry_initial_prompt else []
        context = self._tokens[max(len(carried), since) :]
        return prompts.join(self._hotwords, carried, context, self._prompt_length)

    def _decode(self, cut: Cut, prompt: tuple[int, ...]) -> Generator[Request, Any, DecodingResult]:
        """A window at the first temperature whose result is good enough, or at the last."""
        for temperature in self._options.temperature:
            result: DecodingResult = yield Decode(cut, prompt, self.language, temperature)
            if not needs_fallback(result, self._options):
                break
        return result

    def _with_words(
        self, cut: Cut, segments: list[Segment], result: DecodingResult, following: int, last_speech: float
    ) -> Generator[Request, Any, tuple[list[Segment], int, float, bool]]:
        """Segments with words, and what their times say about where to go on: the last is whether to drop them all."""
        options = self._options
        text = words.text_tokens(segments, self._codec.eot)
        alignment = []
        if any(text):
            alignment = yield Align(cut, tuple(token for each in text for token in each), self.language)
        words.add_words(
            segments,
            alignment,
            text,
            offset=cut.start / FRAMES_PER_SECOND,
            last_speech=last_speech,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )
        view = words.WindowView(
            cut.start, cut.size, self._frames, ends_with_one_stamp(result, self._codec), last_speech
        )
        outcome = words.follow_words(segments, view, following, options.hallucination_silence_threshold)
        return outcome

    def _add(self, segments: list[Segment]) -> None:
        for segment in segments:
            if segment["start"] == segment["end"] or not segment["text"].strip():
                segment["text"] = ""
                segment["tokens"] = []
                segment["words"] = []  # as openai-whisper has it, with word times or without
            self._segments.append({"id": len(self._segments), **segment})
            self._tokens.extend(segment["tokens"])


class _Creep:
    """Sees to it that a file gets to its end."""

    def __init__(self) -> None:
        self._recent: list[int] = []

    def onward(self, seek: int, following: int, size: int) -> int:
        """Where to go on from `seek`: `following`, or the window's end where that leads nowhere."""
        if following <= seek:
            following = seek + size
        self._recent = [*self._recent[-_CREEPING_WINDOWS + 1 :], following - seek]
        if len(self._recent) == _CREEPING_WINDOWS and sum(self._recent) < _CREEPING_FRAMES:
            following = max(following, seek + size)
            self._recent.clear()
        return following


def clip_frames(options: TranscribeOptions, frames: int) -> list[tuple[int, int]]:
    """The clips as (start, end) in frames, within a file of `frames` frames."""
    clips = []
    for start, end in options.clips:
        last = frames if end is None else min(frames, round(end * FRAMES_PER_SECOND))
        clips.append((round(start * FRAMES_PER_SECOND), last))
    return clips


def needs_fallback(result: DecodingResult, options: TranscribeOptions) -> bool:
    """Whether a result repeats itself or is too improbable, and is not just silence."""
    ratio, logprob = options.compression_ratio_threshold, options.logprob_threshold
    improbable = logprob is not None and result.avg_logprob < logprob
    silent = options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold
    if silent and improbable:
        return False
    return improbable or (ratio is not None and result.compression_ratio > ratio)


def is_silence(result: DecodingResult, options: TranscribeOptions) -> bool:
    """Whether nobody speaks in a window: probably not, and its text is improbable too."""
    if options.no_speech_threshold is None or result.no_speech_prob <= options.no_speech_threshold:
        return False
    return options.logprob_threshold is None or result.avg_logprob <= options.logprob_threshold


def ends_with_one_stamp(result: DecodingResult, codec: TextCodec) -> bool:
    """Whether text and then a single timestamp are the end: there is no speech after it."""
    stamps = [token >= codec.timestamp_begin for token in result.tokens[-2:]]
    return stamps == [False, True]


def segments_of(codec: TextCodec, result: DecodingResult, seek: int, size: int) -> tuple[list[Segment], int]:
    """A window's segments, and the frame to go on at: the end of the last whole segment, or the window's."""
    tokens, begin = result.tokens, codec.timestamp_begin
    offset = seek / FRAMES_PER_SECOND
    stamps = [token >= begin for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if stamps[i] and stamps[i - 1]]
    one_stamp = stamps[-2:] == [False, True]
    if not cuts:
        last = next((token - begin for token in reversed(tokens) if token >= begin), 0)
        length = last * SECONDS_PER_TOKEN if last else size / FRAMES_PER_SECOND
        return [segment_of(codec, result, seek, offset, offset + length, tokens)], seek + size
    if one_stamp:
        cuts.append(len(tokens))
    segments = []
    before = 0
    for cut in cuts:
        part = tokens[before:cut]
        start = offset + (part[0] - begin) * SECONDS_PER_TOKEN
        end = offset + (part[-1] - begin) * SECONDS_PER_TOKEN
        segments.append(segment_of(codec, result, seek, start, end, part))
        before = cut
    if one_stamp:
        return segments, seek + size
    return segments, seek + (tokens[before - 1] - begin) * FRAMES_PER_TOKEN


def segment_of(
    codec: TextCodec, result: DecodingResult, seek: int, start: float, end: float, tokens: tuple[int, ...]
) -> Segment:
    """A segment as openai-whisper has it, without its id. start, end: seconds."""
    return {
        "seek": seek,
        "start": start,
        "end": end,
        "text": codec.decode([token for token in tokens if token < codec.eot]),
        "tokens": list(tokens),
        "temperature": result.temperature,
        "avg_logprob": result.avg_logprob,
        "compression_ratio": result.compression_ratio,
        "no_speech_prob": result.no_speech_prob,
    }
