"""The decoding loop: greedy, sampling and beam search over a batch of windows that come and go.

Every window stands alone: its prompt, temperature, language, length and end have no influence on its neighbours'
tokens, so a batch gives what one by one gives. All that a step does happens on the device (rows.py, rules.py,
choices.py), so on a GPU it is one captured graph, and the processor looks only now and then at which windows are
finished. The same step runs without a graph elsewhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

from transcription_runner.choices import choose_beams, choose_tokens
from transcription_runner.graphs import Graphs
from transcription_runner.kv_cache import Step
from transcription_runner.network import Network
from transcription_runner.rows import Rows
from transcription_runner.rules import Rules
from transcription_runner.tokenizer import Tokenizer
from transcription_runner.windows import DecodingResult

Ticket = TypeVar("Ticket")

_GRAPH_STEPS: Final = 8
"""Steps on a GPU between two looks at what is finished: each look costs a wait, each step too many some work."""


@dataclass(frozen=True, slots=True)
class Method:
    """What all windows of a session share.

    group: rows a window is decoded in: the beams of a search, or the candidates to sample. beam: a search.
    suppress: ids never to be sampled. max_initial_timestamp: seconds.
    """

    group: int
    beam: bool
    patience: float
    length_penalty: float | None
    suppress: tuple[int, ...]
    max_initial_timestamp: float = 1.0
    sample_len: int | None = None
    """Tokens of a window's text at most; None for half of the model's context."""

    @property
    def candidates(self) -> int:
        """Finished sequences at which a search ends; 0 for none."""
        return round(self.group * self.patience) if self.beam else 0


@dataclass(frozen=True, slots=True)
class Start(Generic[Ticket]):
    """A window on its way into a session.

    ticket: whatever the caller knows it by. features: (1500, d). tokens: all that its transcript begins with, prompt
    included. sot: the place of <|startoftranscript|> among them. seed: makes its sampling repeatable.
    """

    ticket: Ticket
    features: Tensor
    tokens: tuple[int, ...]
    sot: int
    temperature: float
    seed: int


@dataclass(slots=True)
class _Window(Generic[Ticket]):
    """A window in a session, and how many steps it has taken at most."""

    start: Start[Ticket]
    most: int
    steps: int = 0

    @property
    def length(self) -> int:
        """Tokens in its rows, at most, prompt included."""
        return len(self.start.tokens) + min(self.steps, self.most)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[Ticket]):
    """Windows whose prompts are in the cache, at these places; silence: (n,), the probability that nobody speaks."""

    starts: Sequence[Start[Ticket]]
    places: Sequence[int]
    silence: Tensor


class Session(Generic[Ticket]):
    """A batch being decoded by one method. Windows are admitted at any time and leave when they are finished.

    A round is `launch`, which does not wait for the device, and `collect`, which does; `prepare` may go between.
    """

    def __init__(self, network: Network, tokenizer: Tokenizer, method: Method, capacity: int) -> None:
        """Make room for `capacity` windows."""
        self._network = network
        self._tokenizer = tokenizer
        self._method = method
        self.capacity = capacity
        config, device = network.config, network.device
        self._half_context: int = config.max_target_positions // 2
        self._most: int = config.max_target_positions
        self._cache = network.cache(windows=capacity, group=method.group)
        self._windows: list[_Window[Ticket] | None] = []
        """By place; None where one has left and none has come."""
        self._rules = Rules(
            tokenizer,
            suppress=method.suppress,
            latest_start=round(method.max_initial_timestamp * config.max_source_positions / 30),
            vocabulary=config.vocab_size,
            device=device,
        )
        self._rows = Rows(capacity, method.group, most=self._half_context, candidates=method.candidates, device=device)
        self._warm = False
        self._graphs = Graphs() if device.type == "cuda" else None
        self._steps = _GRAPH_STEPS if self._graphs else 1
        self.ready: torch.cuda.Event | None = None
        """On a GPU: from when on `prepare` may write to the free places."""

    def __len__(self) -> int:
        """Windows being decoded."""
        return sum(window is not None for window in self._windows)

    @property
    def free(self) -> int:
        """Windows that could be admitted."""
        return self.capacity - len(self)

    def tickets(self) -> list[Ticket]:
        """Those of the windows being decoded."""
        return [window.start.ticket for window in self._windows if window is not None]

    @torch.inference_mode()
    def prepare(self, starts: Sequence[Start[Ticket]], skip: int = 0) -> Prepared[Ticket]:
        """Put the prompts of windows, at most `free`, into the cache. Touches none of those being decoded.

        skip: free places that were prepared before and not begun yet.
        """
        empty = [place for place, window in enumerate(self._windows) if window is None]
        empty += range(len(self._windows), self.capacity)
        places = empty[skip : skip + len(starts)]
        logits = self._network.prefill(
            self._cache,
            places,
            torch.stack([start.features for start in starts]),
            [start.tokens for start in starts],
            [start.sot for start in starts],
        )
        token = self._tokenizer.no_speech
        silence = torch.zeros(len(starts)) if token is None else logits.softmax(-1)[:, token]
        return Prepared(starts, places, silence)

    @torch.inference_mode()
    def begin(self, prepared: Prepared[Ticket]) -> None:
        """Let prepared windows take part from the next step on."""
        starts, places = prepared.starts, prepared.places
        longest = self._method.sample_len or self._half_context
        begun = [_Window(start, min(longest, self._most + 1 - len(start.tokens))) for start in starts]
        self._cache.share_prompts(places, max(len(start.tokens) for start in starts))
        self._windows += [None] * (max(places) + 1 - len(self._windows))
        for place, window in zip(places, begun, strict=True):
            self._windows[place] = window
        self._rows.begin(
            places,
            tokens=[start.tokens for start in starts],
            temperatures=[start.temperature for start in starts],
            most=[window.most for window in begun],
            seeds=[start.seed for start in starts],
        )
        silence = prepared.silence.to(self._rows.device)
        if self._graphs is not None:  # made on another stream, whose memory it is
            silence.record_stream(torch.cuda.current_stream(self._network.device))
        self._rows.silence[torch.tensor(places, device=self._rows.device)] = silence
        self._warm = self._warm or any(start.temperature > 0 for start in starts)

    def admit(self, starts: Sequence[Start[Ticket]]) -> None:
        """Take in windows, at most `free`."""
        if starts:
            self.begin(self.prepare(starts))

    def step(self) -> list[tuple[Ticket, DecodingResult]]:
        """One round; returns the windows that it finished."""
        self.launch()
        return self.collect()

    @torch.inference_mode()
    def launch(self) -> None:
        """Some steps for every window."""
        self._close_gaps()
        if self._graphs is not None:
            self.ready = torch.cuda.current_stream(self._network.device).record_event()
        present = [window for window in self._windows if window is not None]
        if not present:
            return
        for _ in range(self._steps):
            lengths = [window.length for window in present]
            if self._graphs is None:
                self._advance(len(self._windows), max(lengths), min(lengths) == max(lengths))
            else:
                bound = self._cache.bound(max(lengths))
                windows = min(self.capacity, batch_of(len(self._windows)))
                self._graphs.run((windows, bound, self._warm), partial(self._advance, windows, bound, even=False))
            for window in present:
                window.steps += 1

    @torch.inference_mode()
    def collect(self) -> list[tuple[Ticket, DecodingResult]]:
        """Take out the windows that are finished."""
        if not self._windows:
            return []
        still = self._rows.open[: len(self._windows)].tolist()
        finished = [
            (place, window) for place, window in enumerate(self._windows) if window is not None and not still[place]
        ]
        if not finished:
            return []
        for place, _ in finished:
            self._windows[place] = None
        return [(window.start.ticket, self._result(place, window)) for place, window in finished]

    def _advance(self, windows: int, longest: int, even: bool) -> None:
        """One token more for the first windows: no decision in here is the processor's, save in a beam search on it."""
        state, method = self._rows, self._method
        rows = slice(0, windows * method.group)
        step = Step(state.token[rows], state.place[rows], state.open[:windows], longest, even)
        logits = self._network.step(self._cache, step)
        log_sum = self._rules.apply(logits, state)
        eot, begin = self._tokenizer.eot, self._tokenizer.timestamp_begin
        if method.beam:
            sources = choose_beams(state, logits, log_sum, eot=eot, timestamp_begin=begin)
            self._cache.reorder(sources, longest)
        else:
            choose_tokens(state, logits, log_sum, eot=eot, timestamp_begin=begin, warm=self._warm)

    def _close_gaps(self) -> None:
        """Move the last windows into gaps, where the batch gets smaller by it."""
        while self._windows and self._windows[-1] is None:
            self._windows.pop()
        present = len(self)
        if self._graphs is not None and batch_of(len(self._windows)) == batch_of(present):
            return
        for place in range(present):
            if self._windows[place] is not None:
                continue
            last = self._windows.pop()
            while last is None:
                last = self._windows.pop()
            source = len(self._windows)
            self._cache.move_window(source, place, last.length)
            self._rows.move(source, place)
            self._windows[place] = last
        del self._windows[present:]

    def _result(self, place: int, window: _Window[Ticket]) -> DecodingResult:
        state, group = self._rows, self._method.group
        rows = slice(place * group, (place + 1) * group)
        candidates = _sequences(state.tokens[rows], state.length[rows], state.total[rows], state.ended[rows].tolist())
        if self._method.beam:
            first = place * state.candidates
            found = slice(first, first + int(state.found[place]))
            ended = _sequences(
                state.found_tokens[found],
                state.found_length[found],
                state.found_total[found],
                [True] * (found.stop - first),
            )
            unfinished = sorted(candidates, key=lambda each: each[1], reverse=True)
            candidates = ended + unfinished[: max(0, group - len(ended))]
        tokens, total, complete = max(candidates, key=lambda each: self._score(each[0], each[1]))
        text = self._tokenizer.decode(tokens).strip()
        return DecodingResult(
            tokens=tuple(tokens),
            text=text,
            avg_logprob=total / (len(tokens) + 1),
            no_speech_prob=float(state.silence[place]),
            temperature=window.start.temperature,
            compression_ratio=compression_ratio(text),
            complete=complete,
        )

    def _score(self, tokens: Sequence[int], total: float) -> float:
        length = max(1, len(tokens))
        if self._method.length_penalty is None:
            return total / length
        return float(total / ((5 + length) / 6) ** self._method.length_penalty)


def _sequences(
    tokens: Tensor, lengths: Tensor, totals: Tensor, ended: Sequence[bool]
) -> list[tuple[list[int], float, bool]]:
    """Each row's tokens, log probability, and whether it came to its end."""
    return [
        (row[:length], total, end)
        for row, length, total, end in zip(tokens.tolist(), lengths.tolist(), totals.tolist(), ended, strict=True)
    ]


def batch_of(windows: int) -> int:
    """The size of batch that so many windows are decoded in, on a GPU: a graph is captured for each."""
    if windows <= 2:
        return max(1, windows)
    step = 4 if windows <= 16 else 8 if windows <= 32 else 16 if windows <= 64 else 32
    return -(-windows // step) * step


def compression_ratio(text: str) -> float:
    """Bytes of a text for each byte that zlib makes of it: high for text that repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))
