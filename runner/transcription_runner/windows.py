"""What passes between a file's state machine and the engine: requests for windows, and their results.

No torch here, nor in the machines that use it: all that decides what is transcribed can be tested with scripted
results. Times are frames of 10 ms, counted from the beginning of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

FRAMES_PER_SECOND: Final = 100
WINDOW: Final = 3000
"""Frames of a window: 30 s."""
FRAMES_PER_TOKEN: Final = 2
"""Frames from one timestamp token to the next: 0.02 s."""

Segment: TypeAlias = dict[str, Any]


class TextCodec(Protocol):
    """What the machines need of a tokenizer."""

    eot: int
    timestamp_begin: int

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without timestamps."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The audio of one window: stretches of a file laid end to end, WINDOW frames at most.

    pieces: (start, end) in frames. A sequential window is one piece. What is missing to a whole window is filled
    with nothing; a piece that reaches beyond the file has the sound of silence there, which is what openai-whisper
    detects the language on.
    """

    pieces: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        """The frame that the window begins with."""
        return self.pieces[0][0]

    @property
    def size(self) -> int:
        """Frames in all pieces."""
        return sum(end - start for start, end in self.pieces)

    def to_file(self, frame: float, *, first: bool = False) -> float:
        """Where in the file a moment of the window lies, both in frames.

        Between two pieces it is the end of one and the beginning of the next; `first` takes the latter.
        """
        for start, end in self.pieces:
            if frame < end - start or (frame == end - start and not first):
                return start + frame
            frame -= end - start
        return float(self.pieces[-1][1])

    def after(self, frame: int) -> Cut | None:
        """What of the window lies after one of its moments."""
        pieces = []
        for start, end in self.pieces:
            if frame < end - start:
                pieces.append((start + max(0, frame), end))
            frame -= end - start
        return Cut(tuple(pieces)) if pieces else None


@dataclass(frozen=True, slots=True)
class Detect:
    """Which language is spoken in a cut? The answer: probabilities by code."""

    cut: Cut


@dataclass(frozen=True, slots=True)
class Decode:
    """What is said in a cut? The answer: a DecodingResult.

    prompt: tokens of the text before. language: a code, None for a model of one language.
    """

    cut: Cut
    prompt: tuple[int, ...]
    language: str | None
    temperature: float


@dataclass(frozen=True, slots=True)
class Align:
    """When was each word of a cut's text said? The answer: a list of WordTiming, in seconds of the cut."""

    cut: Cut
    tokens: tuple[int, ...]
    language: str | None


Request: TypeAlias = Detect | Decode | Align


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """What the decoder made of one window.

    tokens: text and timestamps, without the end. avg_logprob: mean natural log of the tokens' probabilities.
    no_speech_prob: 0 to 1. compression_ratio: of the text as zlib has it.
    """

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float
    compression_ratio: float
    complete: bool = True
    """Whether the text came to its end; else there was no room for more."""


@dataclass(slots=True)
class WordTiming:
    """A word, its tokens, and when it was said, in seconds from the beginning of its window."""

    word: str
    tokens: list[int]
    start: float
    end: float
    probability: float


Response: TypeAlias = Mapping[str, float] | DecodingResult | list[WordTiming]


def likeliest(response: Response) -> str:
    """The language that the answer to a Detect says."""
    if isinstance(response, DecodingResult | list):
        raise TypeError("not the answer to a Detect")
    return max(response, key=response.__getitem__)


class Machine(Protocol):
    """One file's transcription: asks for windows and takes their results, in any order.

    Ends after finitely many requests whatever the results say.
    """

    def requests(self) -> Iterable[Request]:
        """Requests that can be served now; each is handed out once."""

    def take(self, request: Request, response: Response) -> None:
        """The answer to an earlier request."""

    @property
    def done(self) -> bool:
        """Whether everything is answered and `result` is there."""

    @property
    def position(self) -> int:
        """Frames of the file that are dealt with, for progress."""

    language: str | None
    """The language, once it is known."""

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments that are there so far, where they come in order and stay as they are; else none."""

    def result(self) -> dict[str, Any]:
        """openai-whisper's JSON: text, segments, language."""
