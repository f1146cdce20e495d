"""Keys and values of the windows being decoded.

Self-attention has an entry a row, cross-attention one a window, which is `group` rows. Where a kernel of ours does the
attention (attention.py), rows of one window share what they have in common: a table says in which row each token's
entry lies, so a beam search moves numbers instead of entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from transcription_runner.attention import Kernels, attend
from transcription_runner.modules import WhisperConfig
from transcription_runner.rows import spread

_GROWTH: Final = 64


@dataclass(frozen=True)
class Step:
    """One more token for the first rows.

    tokens, places: (rows,), the token and its index in its row. open: (windows,), whether a window is being decoded:
    what the others give means nothing. longest: the largest of places, plus one, or more. even: whether all places are
    longest - 1, so that nothing needs masking.
    """

    tokens: Tensor
    places: Tensor
    open: Tensor
    longest: int
    even: bool

    @cached_property
    def every(self) -> Tensor:
        """The rows' numbers."""
        return torch.arange(len(self.tokens), device=self.tokens.device)

    @cached_property
    def mask(self) -> Tensor | None:
        """Which keys each row looks at, (rows, 1, 1, longest); None for all."""
        if self.even:
            return None
        return (torch.arange(self.longest, device=self.places.device)[None, :] <= self.places[:, None])[
            :, None, None, :
        ]


class Cache:
    """Room for `windows` windows of `group` rows each.

    On a processor it grows as rows get longer; on a GPU all of it is there from the beginning, where captured graphs
    look for it.
    """

    def __init__(
        self,
        config: WhisperConfig,
        *,
        windows: int,
        group: int,
        dtype: torch.dtype,
        device: torch.device,
        heard: torch.dtype | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        """Make the room. heard: the precision of cross-attention. kernels: those of attention; None for torch's own."""
        self.group = group
        self.layers: int = config.decoder_layers
        self.heads: int = config.decoder_attention_heads
        self.width: int = config.d_model // self.heads
        self.most: int = config.max_target_positions
        self._kernels = kernels
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        shape = (2, self.layers, windows, self.heads, config.max_source_positions, self.width)
        self.cross_keys, self.cross_values = torch.empty(shape, dtype=heard or dtype, device=device)
        self._rows = windows * group
        self.length = 0
        self._entries = self.keys = self.values = torch.empty(0)
        self.table: Tensor | None = None
        if kernels is not None:
            every = torch.arange(self._rows, dtype=torch.int32, device=device)
            self.table = every[:, None].repeat(1, self.most)
        self.reserve(_GROWTH if device.type == "cpu" else self.most)

    def bound(self, length: int) -> int:
        """How much of the rows a captured step looks at, for rows of up to `length` tokens."""
        return self.most if self._kernels is not None else min(self.most, -(-length // _GROWTH) * _GROWTH)

    def reserve(self, length: int) -> None:
        """Make room for rows of `length` tokens."""
        if length <= self.length:
            return
        wanted = min(self.most, -(-length // _GROWTH) * _GROWTH)
        # Zeros and not whatever memory holds: a masked place times infinity would still be no number.
        larger = torch.zeros((2, self.layers, self._rows, self.heads, wanted, self.width), **self._kind)
        if self.length:
            larger[..., : self.length, :] = self._entries
        self._entries = larger
        self.keys, self.values = larger
        self.length = wanted

    def prompt_rows(self, places: Sequence[int]) -> Tensor:
        """The rows that hold the prompts of windows at these places: with a table one for all rows of a window."""
        held = 1 if self.table is not None else self.group
        rows = [place * self.group + row for place in places for row in range(held)]
        return torch.tensor(rows, device=self._kind["device"])

    def put_prompts(self, layer: int, rows: Tensor, keys: Tensor, values: Tensor) -> None:
        """The prompts of n new windows, into their `prompt_rows`. keys, values: (n, heads, length, width)."""
        held = len(rows) // len(keys)
        for store, new in ((self.keys, keys), (self.values, values)):
            store[layer, :, :, : keys.shape[2]].index_copy_(0, rows, spread(new, held))

    def share_prompts(self, places: Sequence[int], length: int) -> None:
        """Let all rows of new windows begin with what `put_prompts` put there."""
        if self.table is not None and self.group > 1:
            for place in places:
                self.table[place * self.group : (place + 1) * self.group, :length] = place * self.group

    def put_sound(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """What new windows at these places (n,) hear. keys, values: (n, heads, 1500, width)."""
        for store, new in ((self.cross_keys, keys), (self.cross_values, values)):
            store[layer].index_copy_(0, places, new.to(store.dtype))

    def begin_step(self, step: Step) -> None:
        """Make room for a step's entries, and note where they go."""
        self.reserve(step.longest)
        if self.table is not None and self.group > 1:
            self.table[step.every, step.places] = step.every.int()

    def attend(self, layer: int, new: Tensor, step: Step) -> Tensor:
        """Self-attention of one new token a row, whose entries are kept.

        new: (rows, 3, heads, width): its query, key and value. Returns (rows, heads, width).
        """
        keys, values = self.keys[layer], self.values[layer]
        if self._kernels is not None:
            table = self.table if self.group > 1 else None
            return self._kernels.attend(new, keys, values, places=step.places, open_=step.open, table=table)
        rows, longest = len(new), step.longest
        q, key, value = new.unbind(1)
        if step.mask is None:
            keys[:rows, :, longest - 1] = key
            values[:rows, :, longest - 1] = value
        else:
            keys[step.every, :, step.places] = key
            values[step.every, :, step.places] = value
        return attend(q[:, :, None], keys[:rows, :, :longest], values[:rows, :, :longest], step.mask)[:, :, 0]

    def listen(self, layer: int, q: Tensor, step: Step) -> Tensor:
        """Cross-attention of one token a row. q: (rows, heads, width). Returns the same shape."""
        rows, heads, width = q.shape
        windows = rows // self.group
        keys, values = self.cross_keys[layer], self.cross_values[layer]
        # Several rows a window are a matrix product, which torch's kernels do best.
        if self._kernels is not None and self.group == 1:
            return self._kernels.listen(q, keys, values, open_=step.open)
        # The rows of one window are queries over the same keys.
        grouped = q.view(windows, self.group, heads, width).transpose(1, 2)
        mixed = attend(grouped.to(keys.dtype), keys[:windows], values[:windows]).to(q.dtype)
        return mixed.transpose(1, 2).reshape(rows, heads, width)

    def reorder(self, sources: Tensor, longest: int) -> None:
        """Row i goes on from what row sources[i] was: a beam search's choice. sources: (rows,)."""
        count = len(sources)
        if self.table is not None:
            self.table[:count] = self.table[sources]
            return
        if sources.device.type == "cpu":
            self._move_rows(sources.tolist(), longest)
            return
        for held in (self.keys, self.values):
            for layer in held:
                layer[:count, :, :longest] = layer[sources, :, :longest]

    def _move_rows(self, sources: Sequence[int], longest: int) -> None:
        """As `reorder`, where a copy more costs more than to look which rows stay what they are."""
        moved = {row: source for row, source in enumerate(sources) if row != source}
        entries = self._entries[..., :longest, :]
        overwritten = {source: entries[:, :, source].clone() for source in set(moved.values()) if source in moved}
        for row, source in moved.items():
            entries[:, :, row] = overwritten[source] if source in overwritten else entries[:, :, source]

    def move_window(self, source: int, target: int, length: int) -> None:
        """Copy a window and its rows of `length` tokens to another place."""
        for held in (self.cross_keys, self.cross_values):
            held[:, target] = held[:, source]
        first, into = source * self.group, target * self.group
        rows = slice(first, first + self.group)
        for held in (self.keys, self.values):
            held[:, into : into + self.group, :, :length] = held[:, rows, :, :length]
        if self.table is not None:
            self.table[into : into + self.group] = self.table[rows] + (into - first)
