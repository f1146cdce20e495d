"""A folder as the Hub has it of a Whisper whose architecture is real and whose weights are not.

    python -m bench.random_model SIZE FOLDER

What a program does with it takes as long as with the real one, but for what it writes: a random model never ends a
window by itself, and its text means nothing.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice, product
from pathlib import Path
from typing import Any

from bench.limit import SIZES, Sizes
from tests.materials import tokens
from tests.materials.tokens import Vocabulary

_BYTES = 256
_MERGES = 50_000
_TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nocaptions", "notimestamps")
_TIMES = tokens.TIMESTAMPS
_STD = 0.02


def config(name: str) -> dict[str, Any]:
    """config.json of one of OpenAI's models."""
    sizes, special = SIZES[name], vocabulary(name).special
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": sizes.d_model,
        "encoder_layers": sizes.encoder_layers,
        "decoder_layers": sizes.decoder_layers,
        "num_hidden_layers": sizes.encoder_layers,
        "encoder_attention_heads": sizes.heads,
        "decoder_attention_heads": sizes.heads,
        "encoder_ffn_dim": sizes.ffn_dim,
        "decoder_ffn_dim": sizes.ffn_dim,
        "num_mel_bins": sizes.num_mel_bins,
        "vocab_size": sizes.vocab_size,
        "max_source_positions": sizes.places,
        "max_target_positions": sizes.max_target_positions,
        "decoder_start_token_id": special["<|startoftranscript|>"],
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|endoftext|>"],
        "pad_token_id": special["<|endoftext|>"],
        "scale_embedding": False,
        "is_encoder_decoder": True,
        "torch_dtype": "float16",
    }


def generation_config(name: str) -> dict[str, Any]:
    """generation_config.json: nothing but the end is kept from being written."""
    words = vocabulary(name)
    found = {
        "bos_token_id": words.end,
        "decoder_start_token_id": words.start,
        "eos_token_id": words.end,
        "pad_token_id": words.end,
        "is_multilingual": words.multilingual,
        "max_length": SIZES[name].max_target_positions,
        "no_timestamps_token_id": words.no_timestamps,
        "prev_sot_token_id": words.previous,
        "return_timestamps": False,
        "suppress_tokens": [words.end],
        "begin_suppress_tokens": [words.end],
    }
    if words.multilingual:
        found["lang_to_id"] = words.languages
        found["task_to_id"] = {"transcribe": words.transcribe, "translate": words.translate}
    return found


def vocabulary(name: str) -> Vocabulary:
    """As many text tokens as the real one has (pairs of bytes, then the same and a third), and its special ones."""
    from transcription_runner.languages import LANGUAGES

    multilingual = not name.endswith(".en")
    letters = _letters()
    merges = [f"{a} {b}" for a, b in islice(product(letters, letters), _MERGES)]
    text = [*letters, *(merge.replace(" ", "") for merge in merges)]
    if multilingual:  # one more than GPT-2's, before the end
        text.append("unused")
    languages = SIZES[name].vocab_size - len(text) - 2 - len(_TASKS) - _TIMES
    codes = list(LANGUAGES)[:languages]
    marks = ["endoftext", "startoftranscript", *codes, *_TASKS]
    special = {f"<|{mark}|>": len(text) + place for place, mark in enumerate(marks)}
    return Vocabulary({token: place for place, token in enumerate(text)}, merges, special)


def _letters() -> list[str]:
    """The 256 characters that stand for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in plain] + [chr(_BYTES + place) for place in range(_BYTES - len(plain))]


def write(name: str, folder: Path, seed: int = 0) -> None:
    """All of it, the weights in float16: 3.1 GB of large-v3."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokens.write(vocabulary(name), folder)
    _dump(folder / "config.json", config(name))
    _dump(folder / "generation_config.json", generation_config(name))
    _dump(folder / "preprocessor_config.json", features(SIZES[name]))
    chance = torch.Generator().manual_seed(seed)
    # Drawn once and used over and over: to draw 1.5 billion numbers takes a minute.
    drawn = (torch.randn(1 << 22, generator=chance) * _STD).half()
    save_file(
        {tensor: _filled(torch, tensor, shape, drawn) for tensor, shape in _shapes(name)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def features(sizes: Sizes) -> dict[str, Any]:
    """preprocessor_config.json."""
    return {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": sizes.num_mel_bins,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": sizes.frames,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16_000,
    }


def _shapes(name: str) -> list[tuple[str, tuple[int, ...]]]:
    """The tensors' names and shapes, of transformers; the projection is the embedding, and not written twice."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig.from_dict(config(name)))
    return [(tensor, tuple(held.shape)) for tensor, held in model.state_dict().items() if tensor != "proj_out.weight"]


def _filled(torch: Any, tensor: str, shape: tuple[int, ...], drawn: Any) -> Any:
    """Norms do nothing; all else is small."""
    if "layer_norm" in tensor:
        return torch.full(shape, float(tensor.endswith("weight")), dtype=torch.float16)
    count = 1
    for length in shape:
        count *= length
    return drawn.repeat(-(-count // len(drawn)))[:count].view(shape).clone()


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=sorted(SIZES))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write(options.size, options.folder)
