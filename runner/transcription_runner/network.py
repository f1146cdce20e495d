"""Forward passes through transformers' Whisper modules, arranged for a decoding loop.

`generate()` decides for a batch as a whole and keeps no scores apart; here every row is on its own. Each has its own
length in the cache, so prompts of different lengths need no padding, a finished row gives its place to another at
once, and the beams of one window share its cross-attention keys and values. Only the modules' parts are called (their
projections, norms and embeddings): what quantisation or an adapter put in their place works too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from transcription_runner.encoder import encode

_GROWTH = 64

# transformers' modules, whose attributes are not annotated.
_Module: TypeAlias = Any


class Cache:
    """Keys and values of the rows being decoded.

    Self-attention: one entry a row. Cross-attention: one a window, which is `group` rows. Grows as rows get longer.
    """

    def __init__(self, decoder: _Module, *, windows: int, group: int, dtype: torch.dtype, device: torch.device) -> None:
        """Make room for `windows` windows of `group` rows each."""
        config = decoder.config
        self.group = group
        self.layers: int = config.decoder_layers
        self.heads: int = config.decoder_attention_heads
        self.width: int = config.d_model // self.heads
        self.frames: int = config.max_source_positions
        self.most: int = config.max_target_positions
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        shape = (windows, self.heads, self.frames, self.width)
        self.cross_keys = [torch.empty(shape, **self._kind) for _ in range(self.layers)]
        self.cross_values = [torch.empty(shape, **self._kind) for _ in range(self.layers)]
        self._rows = windows * group
        self.length = 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.reserve(_GROWTH)

    def reserve(self, length: int) -> None:
        """Make room for rows of `length` tokens."""
        if length <= self.length:
            return
        wanted = min(self.most, -(-length // _GROWTH) * _GROWTH)
        shape = (self._rows, self.heads, wanted, self.width)
        for store in (self.keys, self.values):
            for layer in range(self.layers):
                # Zeros and not whatever memory holds: a masked place times infinity would still be no number.
                larger = torch.zeros(shape, **self._kind)
                if self.length:
                    larger[:, :, : self.length] = store[layer]
                    store[layer] = larger
                else:
                    store.append(larger)
        self.length = wanted

    def move_window(self, source: int, target: int, length: int) -> None:
        """Copy a window and its rows of `length` tokens to another place."""
        rows = slice(source * self.group, (source + 1) * self.group)
        into = slice(target * self.group, (target + 1) * self.group)
        for layer in range(self.layers):
            self.cross_keys[layer][target] = self.cross_keys[layer][source]
            self.cross_values[layer][target] = self.cross_values[layer][source]
            self.keys[layer][into, :, :length] = self.keys[layer][rows, :, :length]
            self.values[layer][into, :, :length] = self.values[layer][rows, :, :length]

    def reorder(self, sources: Tensor, length: int) -> None:
        """Row i goes on from what row sources[i] was: a beam search's choice. sources: (rows,) integers."""
        count = len(sources)
        for store in (self.keys, self.values):
            for held in store:
                held[:count, :, :length] = held[sources, :, :length]


class Network:
    """A Whisper model's two halves, on one device and in one precision."""

    def __init__(self, model: _Module, dtype: torch.dtype, device: torch.device) -> None:
        """Wrap a WhisperForConditionalGeneration whose weights are in place."""
        self.model = model
        self.config = model.config
        self.dtype = dtype
        self.device = device
        self._decoder = model.model.decoder
        self._project: nn.Module = model.proj_out

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """mel: (n, bands, 3000). Returns (n, 1500, d), in the model's precision."""
        return encode(self.model.model.encoder, mel.to(self.device, self.dtype))

    def cache(self, *, windows: int, group: int) -> Cache:
        """Room to decode `windows` windows at once, `group` rows each."""
        return Cache(self._decoder, windows=windows, group=group, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def prefill(
        self, cache: Cache, first: int, features: Tensor, prompts: Sequence[Sequence[int]], at: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Put new windows into the cache from place `first` on, with the tokens that each begins with.

        features: (n, 1500, d). prompts: n token lists; row r's place `at[r]` is looked at besides its last.
        Returns logits after the last token, and at `at`: both (n, vocabulary), float32, one row a window.
        """
        count = len(prompts)
        longest = max(map(len, prompts))
        cache.reserve(longest)
        tokens = torch.zeros((count, longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        x = self._embed(tokens.to(self.device), torch.arange(longest, device=self.device))
        rows = slice(first * cache.group, (first + count) * cache.group)
        for index, layer in enumerate(self._decoder.layers):
            cross_k, cross_v = self._cross(layer.encoder_attn, features, cache.heads)
            cache.cross_keys[index][first : first + count] = cross_k
            cache.cross_values[index][first : first + count] = cross_v

            # Padding follows the shorter prompts, so no token ever looks at it; real tokens overwrite it later.
            q, k, v = self._self(layer, x, cache.heads)
            cache.keys[index][rows, :, :longest] = k.repeat_interleave(cache.group, 0)
            cache.values[index][rows, :, :longest] = v.repeat_interleave(cache.group, 0)
            x = x + _out(layer.self_attn, functional.scaled_dot_product_attention(q, k, v, is_causal=longest > 1))
            x = x + self._attend(layer, x, cross_k, cross_v)
            x = x + _feed(layer, x)
        x = self._decoder.layer_norm(x)
        every = torch.arange(count, device=self.device)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        where = torch.tensor(list(at), device=self.device)
        return self.logits(x[every, last]), self.logits(x[every, where])

    @torch.inference_mode()
    def step(self, cache: Cache, tokens: Tensor, places: Tensor, longest: int, same: bool) -> Tensor:
        """One more token for each of the first rows of the cache.

        tokens, places: (rows,), the token and its index in its row. longest: the largest of places, plus one.
        same: whether all places are equal (then nothing needs masking). Returns logits (rows, vocabulary), float32.
        """
        cache.reserve(longest)
        rows = len(tokens)
        every = torch.arange(rows, device=self.device)
        mask = None
        if not same:
            mask = (torch.arange(longest, device=self.device)[None, :] <= places[:, None])[:, None, None, :]
        x = self._embed(tokens[:, None], places[:, None])
        windows = rows // cache.group
        for index, layer in enumerate(self._decoder.layers):
            q, k, v = self._self(layer, x, cache.heads)
            keys, values = cache.keys[index], cache.values[index]
            if same:
                keys[:rows, :, longest - 1] = k[:, :, 0]
                values[:rows, :, longest - 1] = v[:, :, 0]
            else:
                keys[every, :, places] = k[:, :, 0]
                values[every, :, places] = v[:, :, 0]
            mixed = functional.scaled_dot_product_attention(
                q, keys[:rows, :, :longest], values[:rows, :, :longest], attn_mask=mask
            )
            x = x + _out(layer.self_attn, mixed)
            # The rows of one window are queries over the same keys.
            grouped = x.view(windows, cache.group, -1)
            x = x + self._attend(
                layer, grouped, cache.cross_keys[index][:windows], cache.cross_values[index][:windows]
            ).view_as(x)
            x = x + _feed(layer, x)
        return self.logits(self._decoder.layer_norm(x)[:, 0])

    @torch.inference_mode()
    def first_logits(self, features: Tensor, token: int) -> Tensor:
        """Logits (n, vocabulary) after one first token for every window of features (n, 1500, d)."""
        cache = self.cache(windows=len(features), group=1)
        return self.prefill(cache, 0, features, [(token,)] * len(features), [0] * len(features))[0]

    @torch.inference_mode()
    def align(
        self, features: Tensor, tokens: Sequence[Sequence[int]], heads: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """A teacher-forced pass: what every token looked at, in the given (layer, head) pairs.

        features: (n, 1500, d); tokens: n lists. Returns the decoder's output (n, longest, d), for `logits`, and the
        heads' raw attention scores (n, heads, longest, 1500), float32; what lies behind a shorter list's end means
        nothing.
        """
        longest = max(map(len, tokens))
        padded = torch.zeros((len(tokens), longest), dtype=torch.long)
        for row, each in enumerate(tokens):
            padded[row, : len(each)] = torch.tensor(each)
        x = self._embed(padded.to(self.device), torch.arange(longest, device=self.device))
        count = self.config.decoder_attention_heads
        scores: dict[tuple[int, int], Tensor] = {}
        for index, layer in enumerate(self._decoder.layers):
            q, k, v = self._self(layer, x, count)
            x = x + _out(layer.self_attn, functional.scaled_dot_product_attention(q, k, v, is_causal=longest > 1))
            keys, values = self._cross(layer.encoder_attn, features, count)
            wanted = [head for at, head in heads if at == index]
            if wanted:
                q = _split(layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)), count)[:, wanted]
                products = (q @ keys[:, wanted].transpose(-1, -2)).float() * q.shape[-1] ** -0.5
                for place, head in enumerate(wanted):
                    scores[index, head] = products[:, place]
            x = x + self._attend(layer, x, keys, values)
            x = x + _feed(layer, x)
        return self._decoder.layer_norm(x), torch.stack([scores[pair] for pair in heads], dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """The decoder's output (…, d) as logits (…, vocabulary), float32."""
        logits: Tensor = self._project(x)
        return logits.float()

    def _embed(self, tokens: Tensor, places: Tensor) -> Tensor:
        embedded: Tensor = self._decoder.embed_tokens(tokens) + self._decoder.embed_positions.weight[places]
        return embedded

    @staticmethod
    def _self(layer: _Module, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        attention = layer.self_attn
        x = layer.self_attn_layer_norm(x)
        return (
            _split(attention.q_proj(x), heads),
            _split(attention.k_proj(x), heads),
            _split(attention.v_proj(x), heads),
        )

    @staticmethod
    def _cross(attention: _Module, features: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        return _split(attention.k_proj(features), heads), _split(attention.v_proj(features), heads)

    @staticmethod
    def _attend(layer: _Module, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attention = layer.encoder_attn
        q = _split(attention.q_proj(layer.encoder_attn_layer_norm(x)), keys.shape[1])
        return _out(attention, functional.scaled_dot_product_attention(q, keys, values))


def _split(x: Tensor, heads: int) -> Tensor:
    """(n, length, d) to (n, heads, length, d / heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _out(attention: _Module, x: Tensor) -> Tensor:
    joined: Tensor = attention.out_proj(x.transpose(1, 2).flatten(2))
    return joined


def _feed(layer: _Module, x: Tensor) -> Tensor:
    fed: Tensor = layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    return fed
