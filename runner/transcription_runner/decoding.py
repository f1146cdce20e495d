"""The decoding loop: greedy, sampling and beam search over a batch of windows that come and go.

Every window stands alone: its prompt, temperature, language, length and end have no influence on its neighbours'
tokens, so a batch gives what one by one gives. The rules for timestamps and suppressed tokens are openai-whisper's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from transcription_runner.network import Network
from transcription_runner.tokenizer import Tokenizer
from transcription_runner.windows import DecodingResult

Ticket = TypeVar("Ticket")

_NEVER = float("-inf")


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
    """A window in a session: its rows' tokens so far, and its finished candidates."""

    start: Start[Ticket]
    no_speech_prob: float
    most: int
    sequences: list[list[int]]
    ended: list[bool]
    count: int = 0
    finished: list[tuple[list[int], float, bool]] = field(default_factory=list)


class Session(Generic[Ticket]):
    """A batch being decoded by one method. Windows are admitted at any time and leave when they are finished."""

    def __init__(self, network: Network, tokenizer: Tokenizer, method: Method, capacity: int) -> None:
        """Make room for `capacity` windows."""
        self._network = network
        self._tokenizer = tokenizer
        self._method = method
        self.capacity = capacity
        self._cache = network.cache(windows=capacity, group=method.group)
        self._windows: list[_Window[Ticket]] = []
        self._rules = _Rules(tokenizer, method, network)
        rows, device = capacity * method.group, network.device
        self._state = _Rows(rows, device)
        self._half_context: int = network.config.max_target_positions // 2

    def __len__(self) -> int:
        """Windows being decoded."""
        return len(self._windows)

    @property
    def free(self) -> int:
        """Windows that could be admitted."""
        return self.capacity - len(self._windows)

    def tickets(self) -> list[Ticket]:
        """Those of the windows being decoded."""
        return [window.start.ticket for window in self._windows]

    @torch.inference_mode()
    def admit(self, starts: Sequence[Start[Ticket]]) -> list[tuple[Ticket, DecodingResult]]:
        """Take in windows, at most `free`; returns those that were finished by their first token."""
        if not starts:
            return []
        network, group = self._network, self._method.group
        first = len(self._windows)
        features = torch.stack([start.features for start in starts])
        logits, at_sot = network.prefill(
            self._cache, first, features, [start.tokens for start in starts], [start.sot for start in starts]
        )
        silence = self._no_speech(at_sot)
        most_tokens: int = network.config.max_target_positions
        for start, no_speech in zip(starts, silence, strict=True):
            self._windows.append(
                _Window(
                    start=start,
                    no_speech_prob=no_speech,
                    most=min(self._half_context, most_tokens + 1 - len(start.tokens)),
                    sequences=[[] for _ in range(group)],
                    ended=[False] * group,
                )
            )
        rows = slice(first * group, len(self._windows) * group)
        self._state.begin(rows, starts, group)
        self._choose(first, logits.repeat_interleave(group, 0), rows)
        return self._leave()

    @torch.inference_mode()
    def step(self) -> list[tuple[Ticket, DecodingResult]]:
        """One more token for every window; returns those that it finished."""
        if not self._windows:
            return []
        rows = slice(0, len(self._windows) * self._method.group)
        lengths = [len(window.start.tokens) + window.count for window in self._windows]
        longest = max(lengths)
        logits = self._network.step(
            self._cache, self._state.token[rows], self._state.place[rows], longest, min(lengths) == longest
        )
        self._choose(0, logits, rows)
        return self._leave()

    def _no_speech(self, logits: Tensor) -> list[float]:
        if self._tokenizer.no_speech is None:
            return [0.0] * len(logits)
        silence: list[float] = logits.softmax(-1)[:, self._tokenizer.no_speech].tolist()
        return silence

    def _choose(self, first: int, logits: Tensor, rows: slice) -> None:
        """Choose the next token of the rows of all windows from `first` on. logits: (rows, vocabulary)."""
        log_sum = self._rules.apply(logits, self._state, rows)
        if self._method.beam:
            self._choose_beams(first, logits, log_sum, rows)
        else:
            self._choose_tokens(first, logits, log_sum, rows)
        for window in self._windows[first:]:
            window.count += 1

    def _choose_tokens(self, first: int, logits: Tensor, log_sum: Tensor, rows: slice) -> None:
        state = self._state
        windows = self._windows[first:]
        chosen = logits.argmax(-1)
        if any(window.start.temperature > 0 for window in windows):
            counts = torch.tensor([window.count for window in windows for _ in window.sequences])
            chosen = _sample(
                logits,
                state.temperature[rows],
                state.noise[rows].gather(1, counts.to(logits.device)[:, None])[:, 0],
                chosen,
            )
        gained = logits.gather(1, chosen[:, None])[:, 0] - log_sum
        ended = state.ended[rows]
        state.total[rows] += gained * ~ended
        chosen = torch.where(ended, self._tokenizer.eot, chosen)
        state.follow(rows, chosen, self._tokenizer.timestamp_begin, self._tokenizer.eot)
        tokens = chosen.tolist()
        row = 0
        for window in windows:
            for sequence, candidate in enumerate(window.sequences):
                if not window.ended[sequence]:
                    window.ended[sequence] = tokens[row] == self._tokenizer.eot
                    if not window.ended[sequence]:
                        candidate.append(tokens[row])
                row += 1

    def _choose_beams(self, first: int, logits: Tensor, log_sum: Tensor, rows: slice) -> None:
        state, group = self._state, self._method.group
        best, tokens = logits.topk(group + 1, dim=-1)
        scores = (state.total[rows, None] + (best - log_sum[:, None])).tolist()
        candidates = tokens.tolist()
        sources: list[int] = []
        chosen: list[int] = []
        totals: list[float] = []
        for place, window in enumerate(self._windows[first:]):
            at = place * group
            kept = self._extend(window, scores[at : at + group], candidates[at : at + group])
            sources += [rows.start + at + source for source, _, _ in kept]
            chosen += [token for _, token, _ in kept]
            totals += [score for _, _, score in kept]
        device = logits.device
        if sources != list(range(rows.start, rows.stop)):
            order = torch.tensor(list(range(rows.start)) + sources, device=device)
            longest = max(len(window.start.tokens) + window.count for window in self._windows)
            self._cache.reorder(order, longest)
            state.reorder(order)
        state.total[rows] = torch.tensor(totals, device=device)
        state.follow(rows, torch.tensor(chosen, device=device), self._tokenizer.timestamp_begin, self._tokenizer.eot)

    def _extend(
        self, window: _Window[Ticket], scores: list[list[float]], candidates: list[list[int]]
    ) -> list[tuple[int, int, float]]:
        """One step of a window's search: its new beams as (beam before, token, total), and those that ended."""
        group = self._method.group
        beams = range(1 if window.count == 0 else group)  # at first all beams are the same
        ranked = sorted(
            (
                (beam, token, score)
                for beam in beams
                for token, score in zip(candidates[beam], scores[beam], strict=True)
            ),
            key=lambda each: each[2],
            reverse=True,
        )
        kept: list[tuple[int, int, float]] = []
        for beam, token, score in ranked:
            if token == self._tokenizer.eot:
                if len(window.finished) < self._most_candidates:
                    window.finished.append((window.sequences[beam], score, True))
            else:
                kept.append((beam, token, score))
                if len(kept) == group:
                    break
        window.sequences = [[*window.sequences[beam], token] for beam, token, _ in kept]
        return kept

    @property
    def _most_candidates(self) -> int:
        return round(self._method.group * self._method.patience)

    def _leave(self) -> list[tuple[Ticket, DecodingResult]]:
        """Take out the windows that are finished, and close the gaps."""
        results = []
        for place in reversed(range(len(self._windows))):
            window = self._windows[place]
            if not self._is_finished(window):
                continue
            results.append((window.start.ticket, self._result(place, window)))
            last = self._windows.pop()
            if last is not window:
                self._windows[place] = last
                moved = len(self._windows)
                self._cache.move_window(moved, place, len(last.start.tokens) + last.count)
                self._state.move(moved, place, self._method.group)
        return results[::-1]

    def _is_finished(self, window: _Window[Ticket]) -> bool:
        if window.count >= window.most:
            return True
        if self._method.beam:
            return len(window.finished) >= self._most_candidates
        return all(window.ended)

    def _result(self, place: int, window: _Window[Ticket]) -> DecodingResult:
        group = self._method.group
        totals = self._state.total[place * group : (place + 1) * group].tolist()
        ended = window.ended if not self._method.beam else [False] * group
        candidates = list(zip(window.sequences, totals, ended, strict=True))
        if self._method.beam:
            unfinished = sorted(candidates, key=lambda each: each[1], reverse=True)
            candidates = window.finished + unfinished[: max(0, group - len(window.finished))]
        tokens, total, complete = max(candidates, key=lambda each: self._score(each[0], each[1]))
        text = self._tokenizer.decode(tokens).strip()
        return DecodingResult(
            tokens=tuple(tokens),
            text=text,
            avg_logprob=total / (len(tokens) + 1),
            no_speech_prob=window.no_speech_prob,
            temperature=window.start.temperature,
            compression_ratio=compression_ratio(text),
            complete=complete,
        )

    def _score(self, tokens: list[int], total: float) -> float:
        length = max(1, len(tokens))
        if self._method.length_penalty is None:
            return total / length
        return float(total / ((5 + length) / 6) ** self._method.length_penalty)


class _Rows:
    """What is known of every row, on the device: nothing here needs the processor to wait."""

    def __init__(self, rows: int, device: torch.device) -> None:
        def numbers(kind: torch.dtype) -> Tensor:
            return torch.zeros(rows, dtype=kind, device=device)

        self.token = numbers(torch.long)
        """The latest token."""
        self.place = numbers(torch.long)
        """Its index in the row, prompt included."""
        self.total = numbers(torch.float32)
        """Log probability of all chosen tokens."""
        self.ended = numbers(torch.bool)
        self.first = numbers(torch.bool)
        """Whether nothing has been chosen yet."""
        self.stamp = numbers(torch.bool)
        """Whether the latest token is a timestamp; true before the first."""
        self.stamp_before = numbers(torch.bool)
        """Whether the one before was."""
        self.time = numbers(torch.long)
        """The latest timestamp in steps of 0.02 s, -1 for none."""
        self.temperature = numbers(torch.float32)
        self.noise = torch.zeros((rows, 0), device=device)
        self._names = ("token", "place", "total", "ended", "first", "stamp", "stamp_before", "time", "temperature")

    def begin(self, rows: slice, starts: Sequence[Start[Ticket]], group: int) -> None:
        """Fresh state for the rows of new windows."""
        device = self.token.device
        places = [len(start.tokens) - 1 for start in starts for _ in range(group)]
        self.place[rows] = torch.tensor(places, device=device)
        self.temperature[rows] = torch.tensor([s.temperature for s in starts for _ in range(group)], device=device)
        self.total[rows] = 0.0
        self.ended[rows] = False
        self.first[rows] = True
        self.stamp[rows] = True
        self.stamp_before[rows] = True
        self.time[rows] = -1
        if any(start.temperature > 0 for start in starts):
            if not self.noise.shape[1]:
                self.noise = torch.zeros((len(self.token), _MOST_TOKENS), device=device)
            self.noise[rows] = torch.cat([_noise(start.seed, group) for start in starts]).to(device)

    def follow(self, rows: slice, chosen: Tensor, timestamp_begin: int, eot: int) -> None:
        """The rows go on with the chosen tokens."""
        is_stamp = chosen >= timestamp_begin
        self.stamp_before[rows] = self.stamp[rows]
        self.stamp[rows] = is_stamp
        self.time[rows] = torch.where(is_stamp, chosen - timestamp_begin, self.time[rows])
        self.first[rows] = False
        self.ended[rows] |= chosen == eot
        self.token[rows] = chosen
        self.place[rows] += 1

    def reorder(self, sources: Tensor) -> None:
        """Row i becomes what row sources[i] was."""
        for name in self._names:
            held = getattr(self, name)
            held[: len(sources)] = held[sources]

    def move(self, source: int, target: int, group: int) -> None:
        """A window's rows take the place of another's."""
        rows = slice(source * group, (source + 1) * group)
        into = slice(target * group, (target + 1) * group)
        for name in (*self._names, "noise"):
            held = getattr(self, name)
            held[into] = held[rows].clone()


_MOST_TOKENS = 449


def _noise(seed: int, group: int) -> Tensor:
    """A row of numbers in [0, 1) for every candidate, the same for the same seed on any device and in any batch."""
    return torch.rand((group, _MOST_TOKENS), generator=torch.Generator().manual_seed(seed))


class _Rules:
    """Which tokens may come next."""

    def __init__(self, tokenizer: Tokenizer, method: Method, network: Network) -> None:
        device = network.device
        self._eot = tokenizer.eot
        self._begin = tokenizer.timestamp_begin
        never = sorted({*method.suppress, tokenizer.no_timestamps})
        vocabulary: int = network.config.vocab_size
        self._suppress = torch.tensor([token for token in never if token < vocabulary], device=device)
        self._times = torch.arange(vocabulary - self._begin, device=device)[None, :]
        precision = 30 / network.config.max_source_positions
        self._latest_start = round(method.max_initial_timestamp / precision)

    def apply(self, logits: Tensor, state: _Rows, rows: slice) -> Tensor:
        """Rule out tokens in place, (rows, vocabulary); returns the log of the sum of what is left, (rows,)."""
        logits.index_fill_(1, self._suppress, _NEVER)
        text, times = logits[:, : self._begin], logits[:, self._begin :]
        first, stamp, before = state.first[rows], state.stamp[rows], state.stamp_before[rows]

        # Timestamps come in pairs, except right before the end, and never go back; a segment has some length.
        open_ = stamp & ~before
        lowest = state.time[rows] + 1 - open_.long()
        ruled_out = (self._times < lowest[:, None]) | (stamp & before & ~first)[:, None]
        ruled_out |= first[:, None] & (self._times > self._latest_start)
        times.masked_fill_(ruled_out, _NEVER)
        text[:, : self._eot].masked_fill_(open_[:, None], _NEVER)

        # If timestamps together are likelier than any other token, then it is one.
        sum_times = times.logsumexp(-1)
        only_times = first | (sum_times > text.amax(-1))
        text.masked_fill_(only_times[:, None], _NEVER)
        return torch.logaddexp(sum_times, text.logsumexp(-1))


def _sample(logits: Tensor, temperature: Tensor, noise: Tensor, greedy: Tensor) -> Tensor:
    """A token a row by its own temperature and its own random number; the greedy one where that is 0."""
    warm = temperature > 0
    scaled = logits / torch.where(warm, temperature, 1.0)[:, None]
    sums = scaled.softmax(-1).double().cumsum(-1)
    # The first place whose sum exceeds the number: one of no probability can never be it.
    wanted = noise.double() * sums[:, -1]
    drawn = torch.searchsorted(sums, wanted[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return torch.where(warm, drawn, greedy)


def compression_ratio(text: str) -> float:
    """Bytes of a text for each byte that zlib makes of it: high for text that repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))
