"""Whisper's linear layers as a CPU computes them fastest, in place of torch's own.

torch gives a float32 `nn.Linear` to MKL, which is slow on processors that are not Intel's. oneDNN, which torch carries
too, is not; its weights are packed once. In int8 a row of a weight has one scale, and so has a row of activations,
found as it comes: a token's numbers depend on no other token, so a window's not on its neighbours.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from transcription_runner.modules import is_exact_gelu

# Modules that change their kind: annotations would not hold.
_Module: TypeAlias = Any

Kind: TypeAlias = Literal["float32", "bfloat16", "int8"]

# Rows that oneDNN lays the packed weights out for: those of one window. Fewer or more are computed from them as well.
_ROWS = 1500

# What 1 stands for has to be above 0 for a row of zeros, too.
_SMALLEST = 1e-12

_WEIGHT_LIMIT = 127
# Without VNNI two products are added up in 16 bits, where only 7 bits by 8 fit.
_ROW_LIMIT = 127 if torch.cpu._is_vnni_supported() else 63


class PackedLinear(nn.Module):
    """A linear layer with oneDNN's packed weights, in float32 or bfloat16; with `gelu`, that after it."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        """Pack weight (out, in); bias: (out,). Both in the precision to compute in."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self._bias = None if bias is None else bias.detach().contiguous()
        self._after = ("gelu", "none") if gelu else ("none", "")
        self.exact = weight.dtype == torch.float32
        """Whether it computes in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in). Returns (…, out)."""
        after, algorithm = self._after
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, after, [], algorithm)
        return result


class Int8Linear(nn.Module):
    """A linear layer with weights in int8 and activations quantised row by row as they come; float32 in and out."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        """Quantise weight (out, in); bias: (out,)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        full = weight.detach().float()
        scale = _scale(full, _WEIGHT_LIMIT)
        self._weight: Tensor = torch.ops.onednn.qlinear_prepack((full / scale).round_().to(torch.int8), None)
        self._scale = scale[:, 0].contiguous()
        self._zeros = torch.zeros(self.out_features, dtype=torch.int32)
        self._bias = None if bias is None else bias.detach().float()
        self._gelu = gelu
        self.exact = False

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in), float32. Returns (…, out), float32."""
        rows = x.reshape(-1, self.in_features)
        scale = _scale(rows, _ROW_LIMIT)
        # oneDNN takes activations without a sign, so zero moves up. torch turns floats into int8 fast, and not into
        # uint8; adding there wraps around to the same.
        zero = _ROW_LIMIT + 1
        whole = (rows / scale).round_().to(torch.int8).view(torch.uint8).add_(zero)
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, zero, self._weight, self._scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        result.mul_(scale)
        if self._bias is not None:
            result.add_(self._bias)
        if self._gelu:
            torch.ops.aten.gelu_(result)
        return result.view(*x.shape[:-1], self.out_features)


def supported(kind: str) -> bool:
    """Whether the processor and this torch have what it takes."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if kind == "bfloat16":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return kind != "int8" or "onednn" in torch.backends.quantized.supported_engines


def is_packed(half: _Module) -> bool:
    """Whether `pack` has been at the model that an encoder or a decoder belongs to."""
    return hasattr(half.layers[0].self_attn, "qkv")


def is_exact(half: _Module) -> bool:
    """Whether nothing in an encoder or a decoder is less precise than its activations are."""
    exact: bool = not is_packed(half) or half.layers[0].self_attn.qkv.exact
    return exact


def pack(model: _Module, kind: Kind) -> None:
    """Replace every linear layer of a WhisperForConditionalGeneration on a CPU, and free what it held.

    Its weights are float32, for bfloat16 in that. Self-attention gets one projection for query, key and value, `qkv`,
    and loses its three. The GELU between a layer's `fc1` and `fc2` becomes a part of `fc1`.
    """
    for half in (model.model.encoder, model.model.decoder):
        for layer in half.layers:
            fuse(layer.self_attn, kind)
            gelu = is_exact_gelu(layer.activation_fn)
            layer.fc1 = packed(layer.fc1, kind, gelu=gelu)
            if gelu:
                layer.activation_fn = nn.Identity()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, packed(child, kind))


def fuse(attention: _Module, kind: Kind) -> None:
    """Put `qkv` (d to 3 d) in place of a self-attention's `q_proj`, `k_proj` and `v_proj`."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = torch.cat([weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts])
    attention.qkv = (Int8Linear if kind == "int8" else PackedLinear)(weight, bias)
    del attention.q_proj, attention.k_proj, attention.v_proj


def packed(linear: nn.Linear, kind: Kind, *, gelu: bool = False) -> PackedLinear | Int8Linear:
    """One layer in another form."""
    return (Int8Linear if kind == "int8" else PackedLinear)(linear.weight, linear.bias, gelu=gelu)


def _scale(rows: Tensor, limit: int) -> Tensor:
    """What 1 stands for in each of rows (n, d), so that none gets beyond the limit: (n, 1)."""
    return rows.abs().amax(-1, keepdim=True).clamp_min_(_SMALLEST).div_(limit)
