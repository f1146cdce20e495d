"""The roll-back: the same cached weights through the openai-whisper package itself.

For the day when ours is suspected of an error. It holds a whole file in memory, knows no batches and needs the optional
package `openai-whisper`; importing this module without it raises ImportError.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
import whisper  # type: ignore[import-untyped]
from whisper.model import ModelDimensions, Whisper  # type: ignore[import-untyped]

from transcription_runner import engine as ours
from transcription_runner import errors
from transcription_runner.audio import SAMPLE_RATE, AudioFile
from transcription_runner.mel import to_float
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import Progress, plain

_Model: TypeAlias = Any
_Value: TypeAlias = Any

# What transformers calls the parts of a layer, and what openai-whisper does.
_NAMES: Final = (
    (r"^model\.(encoder|decoder)\.layers\.", r"\1.blocks."),
    (r"^model\.", ""),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.self_attn\.", ".attn."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
    (r"^(encoder|decoder)\.embed_positions\.weight$", r"\1.positional_embedding"),
)

# Options that openai-whisper has no word for; the rest has the same names there.
_OURS: Final = frozenset({"mode", "languages", "multilingual", "vad", "batch_size", "clip_timestamps", "hotwords"})


class OpenAIEngine:
    """openai-whisper's model on one device."""

    def __init__(self, model: _Model, *, half: bool) -> None:
        """Wrap a loaded model; half: decode in float16."""
        self.model = model
        self.half = half

    @property
    def device(self) -> str:
        """`cuda` or `cpu`: where it runs."""
        return str(self.model.device.type)


def load_engine(
    path: Path,
    *,
    device: Literal["auto", "cuda", "cpu"] = "auto",
    compute_type: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto",
    threads: int | None = None,
    adapter: Path | None = None,
) -> OpenAIEngine:
    """Load the model in a folder as the Hub lays it out; as engine.load_engine does, with the same errors.

    It has neither bfloat16 nor int8: errors.Usage.
    """
    if compute_type in ("bfloat16", "int8"):
        raise errors.Usage(f"the engine openai-whisper does not know {compute_type}", hint="Use --engine transformers.")
    loaded = ours.load_engine(path, device=device, compute_type="float32", threads=threads, adapter=adapter, pack=False)
    parts = loaded.network.model
    if parts.proj_out.weight.data_ptr() != parts.model.decoder.embed_tokens.weight.data_ptr():
        raise errors.Usage(
            "the engine openai-whisper has one tensor for the embedding and the projection, which this adapter changes "
            "apart",
            hint="Use --engine transformers.",
        )
    config = loaded.network.config
    model = Whisper(
        ModelDimensions(
            n_mels=config.num_mel_bins,
            n_audio_ctx=config.max_source_positions,
            n_audio_state=config.d_model,
            n_audio_head=config.encoder_attention_heads,
            n_audio_layer=config.encoder_layers,
            n_vocab=config.vocab_size,
            n_text_ctx=config.max_target_positions,
            n_text_state=config.d_model,
            n_text_head=config.decoder_attention_heads,
            n_text_layer=config.decoder_layers,
        )
    )
    weights = parts.state_dict()
    model.load_state_dict({_name(key): tensor for key, tensor in weights.items() if key != "proj_out.weight"})
    heads = torch.zeros(config.decoder_layers, config.decoder_attention_heads, dtype=torch.bool)
    for layer, head in loaded.alignment_heads:
        heads[layer, head] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    half = compute_type in ("auto", "float16") and loaded.device == "cuda"
    return OpenAIEngine(model.to(loaded.device).eval(), half=half)


def transcribe(
    engine: OpenAIEngine,
    audio: Path,
    options: TranscribeOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Transcribe one file, as transcribe.transcribe does; progress is told at the end alone. Sequential mode only."""
    if options.mode != "sequential":
        raise errors.Usage("the engine openai-whisper has no batched mode", hint="Use --mode sequential.")
    if options.languages and options.language is None:
        raise errors.Usage("the engine openai-whisper cannot choose among languages", hint="Use --language.")
    if options.hotwords:
        raise errors.Usage(
            "the engine openai-whisper knows no hotwords", hint="Use --initial_prompt with --carry_initial_prompt True."
        )
    asked = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in _OURS}
    if not engine.model.is_multilingual:
        asked["language"] = "en"
    samples = np.concatenate([to_float(block) for _, block in AudioFile(audio).blocks()])
    duration = len(samples) / SAMPLE_RATE
    asked["clip_timestamps"] = _clips(options, duration)
    begun = time.monotonic()
    with ours.memory_errors():
        result = whisper.transcribe(engine.model, samples, fp16=engine.half, verbose=None, **asked)
    if on_progress is not None:
        on_progress(Progress(duration, duration, duration / max(1e-6, time.monotonic() - begun)))
    found: dict[str, Any] = plain(_numbers(result))
    return found


def _clips(options: TranscribeOptions, duration: float) -> list[float]:
    """The clips, none beyond the end of the file: there openai-whisper would never stop."""
    points: list[float] = []
    for start, end in options.clips:
        if start < duration:
            points += [start, duration if end is None else min(end, duration)]
    return points or [0.0, 0.0]


def _name(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _numbers(value: _Value) -> _Value:
    """numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value
