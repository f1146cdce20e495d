"""The encoder's pass; on a CPU arranged for its caches.

There it goes window by window: what a layer makes of one window is still near when the next layer reads it, and what
it makes of eight is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from transcription_runner.linears import is_exact, is_packed

# modules.py's, with what linears.py or an adapter put in their place.
_Module: TypeAlias = Any

# Scores of attention held at once: 12 MB of bfloat16 that are read again while they are near.
_SCORES = 6_000_000


class Encoder:
    """Whisper's encoder: its modules, and the order of their work."""

    def __init__(self, module: _Module, qkv: Sequence[Callable[[Tensor], Tensor]]) -> None:
        """qkv: for each layer, queries, keys and values by one product, (…, d) to (…, 3 d)."""
        self._module = module
        self._qkv = qkv
        # What a layer makes of one window is still in a processor's cache when the next layer reads it.
        self._one_by_one = is_packed(module)

    def encode(self, mel: Tensor) -> Tensor:
        """The encoder's output (n, 1500, d), for mel (n, bands, 3000): both in its precision."""
        return torch.cat([self._pass(each[None]) for each in mel]) if self._one_by_one else self._pass(mel)

    def _pass(self, mel: Tensor) -> Tensor:
        encoder = self._module
        x = functional.gelu(encoder.conv1(mel))
        x = functional.gelu(encoder.conv2(x))
        x = x.transpose(1, 2) + encoder.embed_positions.weight
        half = self._one_by_one and not is_exact(encoder)
        for layer, qkv in zip(encoder.layers, self._qkv, strict=True):
            attention = layer.self_attn
            mixed = _attend(qkv(layer.self_attn_layer_norm(x)), attention.num_heads, half=half)
            x = attention.out_proj(mixed).add_(x)
            x = layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x)))).add_(x)
        normed: Tensor = encoder.layer_norm(x)
        return normed


def _attend(qkv: Tensor, heads: int, *, half: bool) -> Tensor:
    """Self-attention over queries, keys and values (1, length, 3 d), side by side. Returns (1, length, d).

    half: compute it in bfloat16.
    """
    count, length, width = qkv.shape
    q, k, v = qkv.view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = _attend_in_half(q[0], k[0], v[0])[None] if half else functional.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).reshape(count, length, width // 3).to(qkv.dtype)


def _attend_in_half(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As torch's own attention, whose blocks oneDNN's bfloat16 products have no part in: (heads, length, width)."""
    heads, length, width = q.shape
    q = (q * width**-0.5).to(torch.bfloat16, memory_format=torch.contiguous_format)
    k = k.transpose(1, 2).to(torch.bfloat16, memory_format=torch.contiguous_format)
    v = v.to(torch.bfloat16, memory_format=torch.contiguous_format)
    rows = min(length, max(1, _SCORES // (heads * length)))
    scores = q.new_empty((heads, rows, length))
    weights = torch.empty_like(scores)
    mixed = torch.empty_like(q)
    for first in range(0, length, rows):
        part = q[:, first : first + rows]
        size = part.shape[1]
        torch.bmm(part, k, out=scores[:, :size])
        torch.softmax(scores[:, :size], -1, out=weights[:, :size])
        torch.bmm(weights[:, :size], v, out=mixed[:, first : first + rows])
    return mixed
