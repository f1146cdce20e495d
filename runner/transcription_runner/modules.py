"""Whisper's modules, named as transformers names them: what weights are loaded into, and nothing that computes.

Weights in the Hub's format, adapters and quantisation all go by these names. The passes through them are ours
(encoder.py, network.py), and importing transformers costs more than all the rest of a start: so it is not imported on
the way to a result. tests/unit/runner/test_modules.py holds the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True, slots=True)
class WhisperConfig:
    """What of a model's config.json is used here; what a file does not say is as in transformers.

    There, too, nothing is scaled by `scale_embedding`.
    """

    vocab_size: int = 51865
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1536
    max_source_positions: int = 1500
    max_target_positions: int = 448
    eos_token_id: int | None = 50256
    activation_function: str = "gelu"
    tie_word_embeddings: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WhisperConfig:
        """From the content of a config.json. Raises ValueError where it makes no sense."""
        kinds: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        used: dict[str, Any] = {name: values[name] for name in kinds if name in values}
        match used.get("eos_token_id"):
            case [first, *_]:  # where it is a list, any of them ends a text
                used["eos_token_id"] = first
        for name, value in used.items():
            if name == "eos_token_id" and value is None:
                continue
            if type(value) is not kinds[name] or (isinstance(value, int) and value < 0):
                raise ValueError(f"{name} is {value!r}")
        config = cls(**used)
        for heads in (config.encoder_attention_heads, config.decoder_attention_heads):
            if not heads or config.d_model % heads:
                raise ValueError(f"{heads} heads do not share a width of {config.d_model}")
        if config.activation_function not in _ACTIVATIONS:
            raise ValueError(f"activation_function is {config.activation_function!r}, not of {', '.join(_ACTIVATIONS)}")
        return config


class QuickGELU(nn.Module):
    """An approximation of GELU by a sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        """The function of every element."""
        return x * functional.sigmoid(1.702 * x)


_ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


def is_exact_gelu(activation: nn.Module) -> bool:
    """Whether it is the GELU of Whisper's own models, and not an approximation."""
    return isinstance(activation, nn.GELU) and activation.approximate == "none"


class _Unset(nn.Module):
    """Has its weights loaded: what torch would begin with is not computed (on `meta` that imports half a compiler)."""

    def reset_parameters(self) -> None:
        """Leave them as they are."""


class Linear(_Unset, nn.Linear):
    """A linear layer without a beginning."""


class Conv1d(_Unset, nn.Conv1d):
    """A convolution without a beginning."""


class Embedding(_Unset, nn.Embedding):
    """A table without a beginning."""


class LayerNorm(_Unset, nn.LayerNorm):
    """A norm without a beginning."""


class WhisperAttention(nn.Module):
    """The projections of one attention."""

    def __init__(self, width: int, heads: int) -> None:
        """Lay out."""
        super().__init__()
        self.num_heads = heads
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)


class WhisperEncoderLayer(nn.Module):
    """One layer of the encoder."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out."""
        super().__init__()
        self.self_attn = WhisperAttention(config.d_model, config.encoder_attention_heads)
        self.self_attn_layer_norm = LayerNorm(config.d_model)
        self.activation_fn = _ACTIVATIONS[config.activation_function]()
        self.fc1 = Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = LayerNorm(config.d_model)


class WhisperDecoderLayer(nn.Module):
    """One layer of the decoder."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out."""
        super().__init__()
        self.self_attn = WhisperAttention(config.d_model, config.decoder_attention_heads)
        self.activation_fn = _ACTIVATIONS[config.activation_function]()
        self.self_attn_layer_norm = LayerNorm(config.d_model)
        self.encoder_attn = WhisperAttention(config.d_model, config.decoder_attention_heads)
        self.encoder_attn_layer_norm = LayerNorm(config.d_model)
        self.fc1 = Linear(config.d_model, config.decoder_ffn_dim)
        self.fc2 = Linear(config.decoder_ffn_dim, config.d_model)
        self.final_layer_norm = LayerNorm(config.d_model)


class WhisperEncoder(nn.Module):
    """From the spectrogram to what the decoder listens to."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out."""
        super().__init__()
        self.conv1 = Conv1d(config.num_mel_bins, config.d_model, 3, padding=1)
        self.conv2 = Conv1d(config.d_model, config.d_model, 3, stride=2, padding=1)
        self.embed_positions = Embedding(config.max_source_positions, config.d_model)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = LayerNorm(config.d_model)


class WhisperDecoder(nn.Module):
    """From tokens to what the projection makes logits of."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out."""
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.d_model)
        self.embed_positions = Embedding(config.max_target_positions, config.d_model)
        self.layers = nn.ModuleList(WhisperDecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = LayerNorm(config.d_model)


class WhisperModel(nn.Module):
    """Both halves."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out."""
        super().__init__()
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)


class WhisperForConditionalGeneration(nn.Module):
    """The whole: both halves and the projection onto the vocabulary."""

    def __init__(self, config: WhisperConfig) -> None:
        """Lay out; the weights hold nothing yet."""
        super().__init__()
        self.config = config
        self.model = WhisperModel(config)
        self.proj_out = Linear(config.d_model, config.vocab_size, bias=False)
