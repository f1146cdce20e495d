"""Forward passes through Whisper's modules, arranged for a decoding loop.

`generate()` decides for a batch as a whole and keeps no scores apart; here every row is on its own. Each has its own
length in the cache, so prompts of different lengths need no padding, and a finished window gives its place to another
at once. Only the modules' parts are called (their projections, norms and embeddings): what quantisation or an adapter
put in their place works too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from transcription_runner.attention import Kernels
from transcription_runner.encoder import Encoder
from transcription_runner.kv_cache import Cache, Step
from transcription_runner.linears import is_exact

# modules.py's, with what linears.py or an adapter put in their place.
_Module: TypeAlias = Any


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
        self._kernels = Kernels.load(dtype, device, width=self.config.d_model // self.config.decoder_attention_heads)
        self._fused = [_fused(layer.self_attn) for layer in self._decoder.layers]
        self._encoder = Encoder(model.model.encoder, [_fused(layer.self_attn) for layer in model.model.encoder.layers])

    @property
    def overlaps(self) -> bool:
        """Whether new windows may be put into a cache while others in it are decoded."""
        return self._kernels is not None

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """mel: (n, bands, 3000). Returns (n, 1500, d), in the model's precision."""
        return self._encoder.encode(mel.to(self.device, self.dtype))

    def cache(self, *, windows: int, group: int) -> Cache:
        """Room to decode `windows` windows at once, `group` rows each."""
        return Cache(
            self.config,
            windows=windows,
            group=group,
            dtype=self.dtype,
            # A step reads all that is heard: memory's speed is its limit, so nothing is kept finer than it is.
            heard=self.dtype if is_exact(self._decoder) else torch.bfloat16,
            device=self.device,
            kernels=self._kernels,
        )

    @torch.inference_mode()
    def prefill(
        self,
        cache: Cache,
        places: Sequence[int],
        features: Tensor,
        prompts: Sequence[Sequence[int]],
        at: Sequence[int],
    ) -> Tensor:
        """Put new windows into the cache at these places, with the tokens that each begins with.

        features: (n, 1500, d). prompts: n token lists. Returns the logits at each row's token `at[r]`, (n, vocabulary),
        float32.
        """
        count = len(prompts)
        longest = max(map(len, prompts))
        cache.reserve(longest)
        tokens = torch.zeros((count, longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        x = self._embed(tokens.to(self.device), torch.arange(longest, device=self.device))
        windows, rows = torch.tensor(places, device=self.device), cache.prompt_rows(places)
        for index, layer in enumerate(self._decoder.layers):
            cross_k, cross_v = self._cross(layer.encoder_attn, features, cache.heads)
            cache.put_sound(index, windows, cross_k, cross_v)
            # Padding follows the shorter prompts, so no token ever looks at it; real tokens overwrite it later.
            q, k, v = self._self(index, x, cache.heads)
            cache.put_prompts(index, rows, k, v)
            x = x + _out(layer.self_attn, functional.scaled_dot_product_attention(q, k, v, is_causal=longest > 1))
            x = x + self._attend(layer, x, cross_k, cross_v)
            x = x + _feed(layer, x)
        every = torch.arange(count, device=self.device)
        return self.logits(self._decoder.layer_norm(x[every, torch.tensor(list(at), device=self.device)]))

    @torch.inference_mode()
    def step(self, cache: Cache, step: Step) -> Tensor:
        """One more token for each of the first rows of the cache. Returns logits (rows, vocabulary), float32."""
        cache.begin_step(step)
        rows, shape = len(step.tokens), (cache.heads, cache.width)
        x = self._embed(step.tokens, step.places)
        for index, layer in enumerate(self._decoder.layers):
            new = self._fused[index](layer.self_attn_layer_norm(x)).view(rows, 3, *shape)
            x = x + layer.self_attn.out_proj(cache.attend(index, new, step).flatten(1))
            q = layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)).view(rows, *shape)
            x = x + layer.encoder_attn.out_proj(cache.listen(index, q, step).flatten(1))
            x = x + _feed(layer, x)
        return self.logits(self._decoder.layer_norm(x))

    @torch.inference_mode()
    def first_logits(self, features: Tensor, token: int) -> Tensor:
        """Logits (n, vocabulary) after one first token for every window of features (n, 1500, d)."""
        count = len(features)
        x = self._embed(
            torch.full((count, 1), token, device=self.device), torch.zeros(1, dtype=torch.long, device=self.device)
        )
        heads = self.config.decoder_attention_heads
        for index, layer in enumerate(self._decoder.layers):
            _, _, v = self._self(index, x, heads)
            x = x + _out(layer.self_attn, v)  # a lone token sees but itself
            x = x + self._attend(layer, x, *self._cross(layer.encoder_attn, features, heads))
            x = x + _feed(layer, x)
        return self.logits(self._decoder.layer_norm(x)[:, 0])

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
            q, k, v = self._self(index, x, count)
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

    def _self(self, index: int, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """A layer's queries, keys and values of x (n, length, d): each (n, heads, length, d / heads)."""
        q, k, v = self._fused[index](self._decoder.layers[index].self_attn_layer_norm(x)).chunk(3, -1)
        return _split(q, heads), _split(k, heads), _split(v, heads)

    @staticmethod
    def _cross(attention: _Module, features: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        return _split(attention.k_proj(features), heads), _split(attention.v_proj(features), heads)

    @staticmethod
    def _attend(layer: _Module, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attention = layer.encoder_attn
        q = _split(attention.q_proj(layer.encoder_attn_layer_norm(x)), keys.shape[1])
        return _out(attention, functional.scaled_dot_product_attention(q, keys, values))


def _fused(attention: _Module) -> Callable[[Tensor], Tensor]:
    """Queries, keys and values by one product: (…, d) to (…, 3 d). The parts' weights become views of the whole's."""
    if hasattr(attention, "qkv"):
        packed: Callable[[Tensor], Tensor] = attention.qkv
        return packed
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    whole = nn.Linear(1, 1, device="meta")
    biases = [
        torch.zeros(len(p.weight), dtype=p.weight.dtype, device=p.weight.device) if p.bias is None else p.bias
        for p in parts
    ]
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat(biases)
    whole.weight, whole.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    for part, view in zip(parts, weight.chunk(3), strict=True):
        part.weight = nn.Parameter(view, requires_grad=False)
    return whole


def _split(x: Tensor, heads: int) -> Tensor:
    """(n, length, d) to (n, heads, length, d / heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _out(attention: _Module, x: Tensor) -> Tensor:
    joined: Tensor = attention.out_proj(x.transpose(1, 2).flatten(2))
    return joined


def _feed(layer: _Module, x: Tensor) -> Tensor:
    fed: Tensor = layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    return fed
