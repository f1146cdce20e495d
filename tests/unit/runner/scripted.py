"""A tokenizer and window results to run the state machines with, without any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from transcription_runner.windows import DecodingResult

EOT = 1000
BEGIN = 2000


class Codec:
    """Tokens below EOT are words w0, w1, …; BEGIN + n is the timestamp of n × 0.02 s."""

    eot = EOT
    timestamp_begin = BEGIN

    def encode(self, text: str) -> list[int]:
        return [hash(word) % EOT for word in text.split()]

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(f" w{token}" for token in tokens if token < EOT)


def result(
    tokens: Sequence[int], *, logprob: float = -0.3, silence: float = 0.1, ratio: float = 1.5, temperature: float = 0.0
) -> DecodingResult:
    """A window's result with these tokens."""
    return DecodingResult(tuple(tokens), Codec().decode(tokens).strip(), logprob, silence, temperature, ratio)


@st.composite
def tokens(draw: st.DrawFn) -> list[int]:
    """What the timestamp rules let a model write: pairs of times around text, perhaps broken off anywhere."""
    written: list[int] = []
    time = draw(st.integers(0, 50))
    for _ in range(draw(st.integers(0, 5))):
        words = draw(st.lists(st.integers(0, EOT - 1), max_size=4))
        end = draw(st.integers(time, 1500))
        if end == time:
            break
        written += [BEGIN + time, *words, BEGIN + end]
        time = draw(st.integers(end, 1500))
    ending = draw(st.sampled_from(["", "stamp", "text", "drop"]))
    if ending == "stamp":
        written.append(BEGIN + time)
    elif ending == "text":
        written += [BEGIN + time, *draw(st.lists(st.integers(0, EOT - 1), min_size=1, max_size=4))]
    elif ending == "drop" and written:
        written.pop()
    return written


def results() -> st.SearchStrategy[DecodingResult]:
    """Any result at all."""
    return st.builds(
        result,
        tokens(),
        logprob=st.sampled_from([-0.2, -0.9, -1.5]),
        silence=st.sampled_from([0.05, 0.5, 0.9]),
        ratio=st.sampled_from([1.2, 3.0]),
    )
