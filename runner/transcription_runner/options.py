"""What a user may ask of a transcription: openai-whisper's options, by its names and with its defaults.

Everything is checked here, before a model is loaded or a byte of audio is read. Imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from transcription_runner import errors, languages

PREPEND_PUNCTUATIONS = "\"'“¿([{-"
APPEND_PUNCTUATIONS = "\"'.。,，!！?？:：”)]}、"
HOTWORDS_LENGTH = 1024
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, kw_only=True)
class VadOptions:
    """How speech is told from silence in `batched` mode.

    enabled: without it a file is cut at its quietest moments, and silence is decoded like speech.
    threshold: the probability, 0 to 1, from which a moment counts as speech.
    min_silence_duration_ms: a shorter pause does not end a stretch of speech.
    min_speech_duration_ms: a shorter stretch is not speech.
    speech_pad_ms: what is kept before and after each stretch.
    """

    enabled: bool = True
    threshold: float = 0.5
    min_silence_duration_ms: int = 500
    min_speech_duration_ms: int = 100
    speech_pad_ms: int = 250

    def __post_init__(self) -> None:
        """Check the values; raises errors.Usage."""
        if not 0.0 < self.threshold < 1.0:
            raise errors.Usage(f"vad_threshold must lie between 0 and 1, not {self.threshold}")
        for name in ("min_silence_duration_ms", "min_speech_duration_ms", "speech_pad_ms"):
            if not 0 <= getattr(self, name) <= 60_000:
                raise errors.Usage(f"vad_{name} must lie between 0 and 60000, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How one window of 30 s is decoded. Names, meanings and defaults are those of the `whisper` command."""

    task: Literal["transcribe", "translate"] = "transcribe"
    language: str | None = None
    languages: tuple[str, ...] = ()
    temperature: tuple[float, ...] = TEMPERATURES
    best_of: int | None = 5
    beam_size: int | None = 5
    patience: float | None = None
    length_penalty: float | None = None
    suppress_tokens: str = "-1"

    def __post_init__(self) -> None:
        """Check and normalise the values; raises errors.Usage."""
        _set(self, "language", _language(self.language))
        _set(self, "languages", tuple(dict.fromkeys(_language_code(each) for each in self.languages)))
        if self.language and self.languages and self.language not in self.languages:
            raise errors.Usage(f"language {self.language} is not among languages {', '.join(self.languages)}")
        if self.task not in ("transcribe", "translate"):
            raise errors.Usage(f"task must be transcribe or translate, not {self.task}")
        _set(self, "temperature", _temperatures(self.temperature))
        _check_count("best_of", self.best_of, 64)
        _check_count("beam_size", self.beam_size, 64)
        self._check_beam()
        parse_tokens(self.suppress_tokens)

    def _check_beam(self) -> None:
        if self.patience is not None:
            if self.beam_size is None:
                raise errors.Usage("patience needs beam_size")
            if not (_finite(self.patience) and self.patience > 0 and round(self.beam_size * self.patience) > 0):
                raise errors.Usage(f"patience must be above 0, and beam_size × patience at least 1: {self.patience}")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise errors.Usage(f"length_penalty must lie between 0 and 1, not {self.length_penalty}")


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(DecodingOptions):
    """How one file is transcribed: a window's options, and what leads from window to window.

    mode: `sequential` goes through a file as openai-whisper does; `batched` cuts it at silences and decodes its
    windows together.
    languages: those allowed when the language is detected; empty for all.
    multilingual: detect the language of each window; in batched mode.
    hotwords: names and terms, separated by commas (or spaces), that every window is told of; at most HOTWORDS_LENGTH
    characters.
    clip_timestamps: whisper's "start,end,start,end,…" in seconds, or the numbers themselves.
    batch_size: windows decoded at once; None fits the device.
    """

    mode: Literal["sequential", "batched"] = "sequential"
    multilingual: bool = False
    initial_prompt: str | None = None
    carry_initial_prompt: bool = False
    hotwords: str | None = None
    condition_on_previous_text: bool = True
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    word_timestamps: bool = False
    prepend_punctuations: str = PREPEND_PUNCTUATIONS
    append_punctuations: str = APPEND_PUNCTUATIONS
    hallucination_silence_threshold: float | None = None
    clip_timestamps: str | Sequence[float] = "0"
    vad: VadOptions = field(default_factory=VadOptions)
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Check and normalise the values; raises errors.Usage."""
        super().__post_init__()
        if self.mode not in ("sequential", "batched"):
            raise errors.Usage(f"mode must be sequential or batched, not {self.mode}")
        if self.multilingual and self.mode != "batched":
            raise errors.Usage("multilingual needs mode batched: in sequence one language is kept")
        if self.multilingual and self.language is not None:
            raise errors.Usage(
                f"multilingual detects languages, and language is {self.language}: leave out one of them"
            )
        _check_number("compression_ratio_threshold", self.compression_ratio_threshold)
        _check_number("logprob_threshold", self.logprob_threshold)
        _check_number("no_speech_threshold", self.no_speech_threshold)
        _check_number("hallucination_silence_threshold", self.hallucination_silence_threshold, least=0.0)
        _check_count("batch_size", self.batch_size, 4096)
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise errors.Usage("hallucination_silence_threshold needs word_timestamps")
        if self.hotwords is not None and len(self.hotwords) > HOTWORDS_LENGTH:
            raise errors.Usage(f"hotwords may have {HOTWORDS_LENGTH} characters, not {len(self.hotwords)}")
        parse_clips(self.clip_timestamps)

    @property
    def clips(self) -> tuple[tuple[float, float | None], ...]:
        """The stretches to transcribe, (start, end) in seconds; an end of None is the end of the file."""
        return parse_clips(self.clip_timestamps)


def parse_tokens(tokens: str) -> tuple[int, ...]:
    """The ids in a comma-separated list; -1 stands for all that is not speech. Raises errors.Usage."""
    try:
        ids = tuple(int(token) for token in tokens.split(",")) if tokens.strip() else ()
    except ValueError:
        raise errors.Usage(f"suppress_tokens must be token ids separated by commas, not {tokens!r}") from None
    if any(token < -1 for token in ids):
        raise errors.Usage(f"suppress_tokens must be token ids, or -1: {tokens!r}")
    return ids


def parse_clips(clips: str | Sequence[float]) -> tuple[tuple[float, float | None], ...]:
    """Clips as (start, end) in seconds, in order; the last end may be None. Raises errors.Usage."""
    points = _clip_points(clips) or [0.0]
    for point in points:
        if not (math.isfinite(point) and point >= 0):
            raise errors.Usage(f"clip_timestamps must be seconds from 0 on, not {point}")
    ends: list[float | None] = [*points[1::2]]
    if len(points) % 2:
        ends.append(None)
    pairs = tuple(zip(points[::2], ends, strict=True))
    before = 0.0
    for number, (start, end) in enumerate(pairs, 1):
        if start < before:
            raise errors.Usage(
                f"clip_timestamps: clip {number} begins at {start} s, before the end of the last ({before} s)"
            )
        if end is not None and end <= start:
            raise errors.Usage(
                f"clip_timestamps: clip {number} ends at {end} s and begins at {start} s: nothing lies between"
            )
        before = start if end is None else end
    return pairs


def _clip_points(clips: str | Sequence[float]) -> list[float]:
    if not isinstance(clips, str):
        return [float(point) for point in clips]
    try:
        return [float(point) for point in clips.split(",")] if clips.strip() else []
    except ValueError:
        raise errors.Usage(
            f"clip_timestamps must be seconds separated by commas (start,end,start,end,…), not {clips!r}"
        ) from None


def _set(options: DecodingOptions, name: str, value: object) -> None:
    object.__setattr__(options, name, value)


def _language(language: str | None) -> str | None:
    if language is None or language.strip().lower() == "auto":
        return None
    return _language_code(language)


def _language_code(language: str) -> str:
    code = languages.to_code(language)
    if code is None:
        near = languages.suggestions(language)
        hint = f"did you mean {' or '.join(near)}?" if near else "give a code (en) or an English name (english)"
        raise errors.Usage(f"unknown language {language!r}: {hint}")
    return code


def _temperatures(value: float | Iterable[float]) -> tuple[float, ...]:
    ladder = (float(value),) if isinstance(value, (int, float)) else tuple(float(each) for each in value)
    if not ladder:
        raise errors.Usage("temperature needs at least one value")
    for each in ladder:
        if not (math.isfinite(each) and 0 <= each <= 10):
            raise errors.Usage(f"temperature must lie between 0 and 10, not {each}")
    return ladder


def _finite(value: float) -> bool:
    return not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: float | None, *, least: float | None = None) -> None:
    if value is None:
        return
    if not _finite(value) or (least is not None and value < least):
        raise errors.Usage(f"{name} must be a number{'' if least is None else f' from {least:g} on'}, not {value}")


def _check_count(name: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise errors.Usage(f"{name} must lie between 1 and {most}, not {value}")
