"""How the next tokens are chosen: the likeliest, drawn at random, or by a beam search. On the device, no waiting."""

from __future__ import annotations

import torch
from torch import Tensor

from transcription_runner.rows import Rows, spread
from transcription_runner.rules import NEVER


def choose_tokens(state: Rows, logits: Tensor, log_sum: Tensor, *, eot: int, timestamp_begin: int, warm: bool) -> None:
    """A token for each of the first rows, by its own temperature.

    logits: (rows, vocabulary), what is ruled out -inf. log_sum: (rows,). warm: whether any row has a temperature.
    """
    rows, group = slice(0, len(logits)), state.group
    windows = slice(0, len(logits) // group)
    chosen = logits.argmax(-1)
    count = spread(state.count[windows], group)
    if warm:
        draw = state.noise[rows].gather(1, count[:, None])[:, 0]
        chosen = sample(logits, state.temperature[rows], draw, chosen)
    live = spread(state.open[windows], group) & ~state.ended[rows]
    gained = logits.gather(1, chosen[:, None])[:, 0] - log_sum
    state.total[rows] += torch.where(live, gained, 0.0)
    state.tokens[rows].scatter_(1, count[:, None], chosen[:, None])
    ends = chosen == eot
    state.ended[rows] |= live & ends
    state.length[rows] += live & ~ends
    state.follow(chosen, live, timestamp_begin)
    going = (~state.ended[rows]).view(-1, group).any(1)
    _count(state, windows, going)


def choose_beams(state: Rows, logits: Tensor, log_sum: Tensor, *, eot: int, timestamp_begin: int) -> Tensor:
    """One step of every window's search. Returns, for each of the first rows, the row that it goes on from.

    logits: (rows, vocabulary), what is ruled out -inf. log_sum: (rows,).
    """
    rows, group, device = slice(0, len(logits)), state.group, state.device
    windows = slice(0, len(logits) // group)
    open_ = state.open[windows]
    best, tokens = logits.topk(group + 1, dim=-1)
    scores = (state.total[rows, None] + (best - log_sum[:, None])).view(-1, group, group + 1)
    # At first all beams are the same: the others have no say.
    others = torch.arange(group, device=device)[None, :] > 0
    scores = scores.masked_fill(((state.count[windows] == 0)[:, None] & others)[:, :, None], NEVER)
    ranked = scores.flatten(1).sort(dim=1, descending=True, stable=True)
    token = tokens.view(-1, group * (group + 1)).gather(1, ranked.indices)
    beam = ranked.indices // (group + 1)
    ends = token == eot
    goes_on = ~ends
    rank = goes_on.cumsum(1)

    # The best that go on are the new beams.
    kept = (goes_on & (rank <= group)).long().argsort(dim=1, descending=True, stable=True)[:, :group]
    first_row = torch.arange(len(open_), device=device)[:, None] * group
    every = torch.arange(len(logits), device=device)
    going = spread(open_, group)
    sources = torch.where(going, (first_row + beam.gather(1, kept)).flatten(), every)
    chosen = token.gather(1, kept).flatten()

    # What ends and is better than the last of them is finished, as long as there is room.
    place = state.found[windows, None] + ends.cumsum(1) - 1
    done = ends & (rank < group) & (place < state.candidates) & open_[:, None]
    _finish(state, done, place, first_row + beam, ranked.values, group)
    state.found[windows] += done.sum(1)

    state.reorder(sources)
    count = spread(state.count[windows], group)
    state.tokens[rows].scatter_(1, count[:, None], chosen[:, None])
    state.total[rows] = torch.where(going, ranked.values.gather(1, kept).flatten(), state.total[rows])
    state.length[rows] += going
    state.follow(chosen, going, timestamp_begin)
    _count(state, windows, state.found[windows] < state.candidates)
    return sources


def _finish(state: Rows, done: Tensor, place: Tensor, row: Tensor, score: Tensor, group: int) -> None:
    """Keep the finished sequences. done, place, row, score: (windows, candidates of this step), best first."""
    # Each beam ends at most once a step, so the first `group` that are done are all of them.
    first = done.long().argsort(dim=1, descending=True, stable=True)[:, :group]
    wanted = done.gather(1, first)
    window = torch.arange(len(done), device=done.device)[:, None]
    nowhere = len(state.found_length) - 1
    where = torch.where(wanted, window * state.candidates + place.gather(1, first), nowhere).flatten()
    source = row.gather(1, first).flatten()
    state.found_tokens[where] = state.tokens[source]
    state.found_length[where] = state.length[source]
    state.found_total[where] = score.gather(1, first).flatten()


def _count(state: Rows, windows: slice, going: Tensor) -> None:
    """One step more; windows that are not going on, or may not, are closed."""
    state.count[windows] += state.open[windows]
    state.open[windows] &= going & (state.count[windows] < state.most[windows])


def sample(logits: Tensor, temperature: Tensor, noise: Tensor, greedy: Tensor) -> Tensor:
    """A token a row by its own temperature and its own random number; the greedy one where that is 0."""
    warm = temperature > 0
    scaled = logits / torch.where(warm, temperature, 1.0)[:, None]
    sums = scaled.softmax(-1).double().cumsum(-1)
    # The first place whose sum exceeds the number: one of no probability can never be it.
    wanted = noise.double() * sums[:, -1]
    drawn = torch.searchsorted(sums, wanted[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return torch.where(warm, drawn, greedy)
