"""Which files of a repository a runner needs, and whether it is a Whisper model at all."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from transcription_runner.errors import ModelMissing, Reason
from transcription_runner.origin import RemoteFile

CONFIGS = {"config.json", "adapter_config.json"}
"""What says of which kind a model is, or what a PEFT adapter is for."""

_KEPT = re.compile(r"[^/]+\.(json|txt|model|tiktoken|jinja)|LICENSE[^/]*|README\.md|NOTICE[^/]*")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_UNSAFE = re.compile(r".*\.(bin|pt|pth|ckpt|h5|msgpack|onnx|pkl)")


def choose(files: Sequence[RemoteFile], shown: str) -> list[RemoteFile]:
    """Configuration first, tokenizer, and the weights as safetensors, once; no programs.

    Raises ModelMissing for a repository without safetensors, or without a configuration.
    """
    names = {file.name for file in files}
    if "model.safetensors" in names:
        weights = {"model.safetensors"}
    else:
        weights = {name for name in names if _SHARD.fullmatch(name)}
    if "adapter_model.safetensors" in names:
        weights.add("adapter_model.safetensors")
    if not names & CONFIGS:
        raise not_whisper(shown, "it has no config.json")
    if not weights:
        others = sorted(name for name in names if _UNSAFE.fullmatch(name))
        raise ModelMissing(
            f"{shown} has no weights as safetensors, and other formats are not loaded, since they can hold programs"
            f"{f' (there: {chr(44).join(others[:5])})' if others else ''}.",
            hint="Choose a repository with model.safetensors, or convert it "
            "(https://huggingface.co/docs/safetensors/convert-weights).",
            reason=Reason.UNSAFE_WEIGHTS,
        )
    return sorted(
        (file for file in files if file.name in weights or _KEPT.fullmatch(file.name)),
        key=lambda file: (file.name not in CONFIGS, file.size, file.name),
    )


def check_whisper(config: Path, shown: str) -> None:
    """See that a configuration is a Whisper model's, or an adapter's. Raises ModelMissing."""
    try:
        value = json.loads(config.read_bytes())
        kind, adapter = value.get("model_type"), "peft_type" in value
    except (ValueError, AttributeError):
        raise not_whisper(shown, "its config.json holds no JSON object") from None
    if kind != "whisper" and not adapter:
        raise not_whisper(shown, f"its config.json names the kind {kind!r}")


def not_whisper(shown: str, why: str) -> ModelMissing:
    """The error that says that this is another kind of model."""
    return ModelMissing(
        f"{shown} is no Whisper model: {why}.",
        hint="Choose a Whisper model in the format of transformers, such as openai/whisper-large-v3 or one fine-tuned "
        "from it.",
        reason=Reason.NOT_A_WHISPER_MODEL,
    )
