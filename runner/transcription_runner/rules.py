"""Which tokens may come next: openai-whisper's rules for timestamps and suppressed tokens, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from transcription_runner.rows import Rows
from transcription_runner.tokenizer import Tokenizer

NEVER = float("-inf")


class Rules:
    """The rules of one model with one list of suppressed tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        suppress: tuple[int, ...],
        latest_start: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        """suppress: ids never to be sampled. latest_start: the last timestamp that may come first, in steps."""
        self._eot = tokenizer.eot
        self._begin = tokenizer.timestamp_begin
        never = sorted({*suppress, tokenizer.no_timestamps})
        self._suppress = torch.tensor([token for token in never if token < vocabulary], device=device)
        self._times = torch.arange(vocabulary - self._begin, device=device)[None, :]
        self._latest_start = latest_start

    def apply(self, logits: Tensor, state: Rows) -> Tensor:
        """Rule out tokens in place, (rows, vocabulary); returns the log of the sum of what is left, (rows,)."""
        rows = slice(0, len(logits))
        logits.index_fill_(1, self._suppress, NEVER)
        text, times = logits[:, : self._begin], logits[:, self._begin :]
        stamp, before = state.stamp[rows], state.stamp_before[rows]
        first = state.length[rows] == 0

        # Timestamps come in pairs, except right before the end, and never go back; a segment has some length.
        open_ = stamp & ~before
        lowest = state.time[rows] + 1 - open_.long()
        ruled_out = (self._times < lowest[:, None]) | (stamp & before & ~first)[:, None]
        ruled_out |= first[:, None] & (self._times > self._latest_start)
        times.masked_fill_(ruled_out, NEVER)
        text[:, : self._eot].masked_fill_(open_[:, None], NEVER)

        # If timestamps together are likelier than any other token, then it is one.
        sum_times = times.logsumexp(-1)
        only_times = first | (sum_times > text.amax(-1))
        text.masked_fill_(only_times[:, None], NEVER)
        return torch.logaddexp(sum_times, text.logsumexp(-1))
