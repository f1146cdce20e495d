"""A small Whisper with random weights and the real tokenizer: for tests that need a model and no ear."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.materials import cache, weights

_KEPT = (
    "added_tokens.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)


def tiny_random(*, multilingual: bool = True, layers: int = 2, width: int = 32, heads: int = 2, seed: int = 0) -> Path:
    """Return a complete repository of a random model, cached; the same arguments give the same bytes.

    It has the real files of `base` (or of `tiny.en`) except for its weights and what they say of their shape.
    """
    name = f"{'multilingual' if multilingual else 'english'}-{layers}x{width}x{heads}-{seed}"
    build = partial(_build, "base" if multilingual else "tiny.en", layers, width, heads, seed)
    return cache.build_once(cache.materials() / "random" / name, build)


def _build(name: str, layers: int, width: int, heads: int, seed: int, folder: Path) -> None:
    from safetensors import safe_open

    original = weights.repository(name)
    folder.mkdir(parents=True)
    for kept in _KEPT:
        shutil.copyfile(original / kept, folder / kept)
    config: dict[str, Any] = json.loads((original / "config.json").read_text())
    sizes = {config["d_model"]: width, config["encoder_ffn_dim"]: 4 * width}
    random = np.random.default_rng(seed)
    arrays = {}
    with safe_open(original / "model.safetensors", framework="numpy") as file:
        for tensor in sorted(file.keys()):
            parts = tensor.split(".")
            if parts[2] == "layers" and int(parts[3]) >= layers:
                continue
            shape = [sizes.get(length, length) for length in file.get_slice(tensor).get_shape()]
            if tensor == "model.encoder.embed_positions.weight":
                arrays[tensor] = _sinusoids(*shape)
            elif "layer_norm" in tensor:
                arrays[tensor] = np.full(shape, float(tensor.endswith("weight")))
            else:
                arrays[tensor] = random.standard_normal(shape) * 0.1
    weights.write_safetensors(arrays, folder / "model.safetensors")
    for side in ("encoder", "decoder"):
        config |= {f"{side}_layers": layers, f"{side}_attention_heads": heads, f"{side}_ffn_dim": 4 * width}
    config |= {"d_model": width, "num_hidden_layers": layers, "_name_or_path": f"random/{folder.name}"}
    generation: dict[str, Any] = json.loads((original / "generation_config.json").read_text())
    generation["alignment_heads"] = [[layers - 1, head] for head in range(heads)]
    for kind, value in (("config.json", config), ("generation_config.json", generation)):
        (folder / kind).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _sinusoids(length: int, width: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return Whisper's encoder positions: sines, then cosines."""
    scales = np.exp(-np.log(10000) / (width // 2 - 1) * np.arange(width // 2))
    times = np.arange(length)[:, None] * scales[None, :]
    return np.concatenate([np.sin(times), np.cos(times)], axis=1)
