"""The same weights under the names of CTranslate2, Hugging Face and openai-whisper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.materials.ctranslate2 import Array, Model


@dataclass(frozen=True)
class Dimensions:
    """openai-whisper's `ModelDimensions`, read from the shapes of the weights."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int


def dimensions(model: Model) -> Dimensions:
    """Read a model's dimensions off its variables."""
    variables = model.variables

    def layers(side: str) -> int:
        prefix = f"{side}/layer_"
        return len({name.split("/")[1] for name in variables if name.startswith(prefix) and name.count("/") > 2})

    audio_ctx, audio_state = variables["encoder/position_encodings/encodings"].shape
    text_ctx, text_state = variables["decoder/position_encodings/encodings"].shape
    return Dimensions(
        n_mels=variables["encoder/conv1/weight"].shape[1],
        n_audio_ctx=audio_ctx,
        n_audio_state=audio_state,
        n_audio_head=int(variables["encoder/num_heads"]),
        n_audio_layer=layers("encoder"),
        n_vocab=variables["decoder/embeddings/weight"].shape[0],
        n_text_ctx=text_ctx,
        n_text_state=text_state,
        n_text_head=int(variables["decoder/num_heads"]),
        n_text_layer=layers("decoder"),
    )


def hugging_face(model: Model) -> Iterator[tuple[str, Array]]:
    """Return the weights as `WhisperForConditionalGeneration` names them (`proj_out` is tied and left out)."""
    variables, sizes = model.variables, dimensions(model)

    def pair(ours: str, theirs: str) -> Iterator[tuple[str, Array]]:
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", variables[f"{theirs}/{kind}"]

    def norm(ours: str, theirs: str) -> Iterator[tuple[str, Array]]:
        yield f"{ours}.weight", variables[f"{theirs}/gamma"]
        yield f"{ours}.bias", variables[f"{theirs}/beta"]

    def stacked(ours: str, theirs: str, *parts: str) -> Iterator[tuple[str, Array]]:
        for kind in ("weight", "bias"):
            for part, array in zip(parts, np.split(variables[f"{theirs}/{kind}"], len(parts)), strict=True):
                if part == "k_proj" and kind == "bias":  # Whisper's keys have none
                    if array.any():
                        raise ValueError(f"{theirs}: the key's bias is not zero, so this is no Whisper")
                    continue
                yield f"{ours}.{part}.{kind}", array

    def layer(side: str, index: int) -> Iterator[tuple[str, Array]]:
        ours, theirs = f"model.{side}.layers.{index}", f"{side}/layer_{index}"
        yield from stacked(f"{ours}.self_attn", f"{theirs}/self_attention/linear_0", "q_proj", "k_proj", "v_proj")
        yield from pair(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
        yield from norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
        if side == "decoder":
            yield from pair(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
            yield from stacked(f"{ours}.encoder_attn", f"{theirs}/attention/linear_1", "k_proj", "v_proj")
            yield from pair(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
            yield from norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
        yield from pair(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
        yield from pair(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
        yield from norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")

    for number in (1, 2):
        yield from pair(f"model.encoder.conv{number}", f"encoder/conv{number}")
    yield "model.decoder.embed_tokens.weight", variables["decoder/embeddings/weight"]
    for side, layers in (("encoder", sizes.n_audio_layer), ("decoder", sizes.n_text_layer)):
        yield f"model.{side}.embed_positions.weight", variables[f"{side}/position_encodings/encodings"]
        for index in range(layers):
            yield from layer(side, index)
        yield from norm(f"model.{side}.layer_norm", f"{side}/layer_norm")


_TO_OPENAI = {
    "model.": "",
    "embed_positions.weight": "positional_embedding",
    "embed_tokens": "token_embedding",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    ".layers.": ".blocks.",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "final_layer_norm": "mlp_ln",
    "encoder_attn.": "cross_attn.",
    "self_attn.": "attn.",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}


def to_openai(name: str) -> str:
    """Turn Hugging Face's name of a weight into openai-whisper's."""
    for theirs, ours in _TO_OPENAI.items():
        name = name.replace(theirs, ours)
    return name
