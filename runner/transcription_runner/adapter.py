"""A PEFT adapter (LoRA and its kin) merged into a Whisper model, by the `peft` package.

After it the model has the plain modules it had before, so that nothing else knows of adapters and none costs time.
Imported only where an adapter is asked for: peft takes a while to import.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import PeftConfig, PeftModel
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import nn

from transcription_runner import errors

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

# Modules that share one tensor in Whisper: where an adapter changes one of them, they must not.
_TIED = ("embed_tokens", "proj_out")

# An adapter changes the kind of modules; peft's annotations are not those of its values.
_Model: TypeAlias = Any
_Untyped: TypeAlias = Any

_log = logging.getLogger(__name__)


def merged(model: _Model, folder: Path) -> _Model:
    """The model with the adapter in `folder` merged into its weights; both in the model's precision.

    model: a WhisperForConditionalGeneration of modules.py; its own weights are changed. Raises errors.ModelMissing
    where there is no adapter, errors.Usage where it is of a kind that cannot be merged or was made for another model,
    errors.CorruptModelCache, errors.PermissionDenied.
    """
    config = _config(folder)
    weights = _weights(folder, model.proj_out.weight.device)
    embedding = model.model.decoder.embed_tokens.weight
    apart = any(name in part for part in weights for name in _TIED)
    model.proj_out.weight = nn.Parameter(embedding.detach().clone(), requires_grad=False) if apart else embedding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they would say is asked of the result below
            adapted: _Untyped = PeftModel(model, config, autocast_adapter_dtype=False)
            outcome: _Untyped = set_peft_model_state_dict(adapted, weights)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise _does_not_fit(folder, config, str(error).strip().splitlines()[-1].strip()) from error
    expected = {name for name in outcome.missing_keys if adapted.base_model.prefix in name}
    if outcome.unexpected_keys or expected:
        odd = sorted([*outcome.unexpected_keys, *expected])
        what = "weights for modules that this model lacks" if outcome.unexpected_keys else "no weights for its modules"
        raise _does_not_fit(folder, config, f"it has {what}, {odd[0]} among {len(odd)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied tensors, which were untied above
        whole = adapted.base_model.merge_and_unload()
    made_for = config.base_model_name_or_path or "a model that it does not name"
    _log.info("merged the %s adapter %s, made for %s", config.peft_type.value, folder, made_for)
    return whole.requires_grad_(False)


def _config(folder: Path) -> _Untyped:
    file = folder / CONFIG
    try:
        values = json.loads(file.read_text("utf-8"))
        kind = values["peft_type"]
    except FileNotFoundError:
        raise errors.ModelMissing(
            f"{folder} holds no adapter: it has no {CONFIG}.",
            hint="Name the folder, or the repository, that peft's save_pretrained wrote.",
        ) from None
    except PermissionError as error:
        raise errors.PermissionDenied(f"{file}: this user may not read it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.CorruptModelCache(f"{file} is no adapter's configuration: {error!r}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config: _Untyped = PeftConfig.from_pretrained(str(folder))
    except (KeyError, ValueError, TypeError, ImportError) as error:
        raise errors.Usage(
            f"{folder}: an adapter of a kind that is not known here ({kind}): {error}.",
            hint="A newer peft may have made it: merge it there (merge_and_unload) and give the whole model's folder.",
        ) from error
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise errors.Usage(
            f"{folder}: an adapter of kind {kind} has no weights that could be merged into the model's.",
            hint="LoRA and its kin can be: LORA, ADALORA, LOHA, LOKR, IA3.",
        )
    return config


def _weights(folder: Path, device: torch.device) -> dict[str, torch.Tensor]:
    # peft would ask the Hub for what is not there.
    if not any((folder / name).exists() for name in _WEIGHTS):
        raise errors.CorruptModelCache(f"{folder} holds no adapter's weights ({_WEIGHTS[0]}).")
    try:
        weights: dict[str, torch.Tensor] = load_peft_weights(str(folder), device=str(device))
    except PermissionError as error:
        raise errors.PermissionDenied(f"{folder}: this user may not read the adapter's weights") from error
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise errors.CorruptModelCache(f"the adapter's weights in {folder} cannot be read: {error}") from error
    return weights


def _does_not_fit(folder: Path, config: _Untyped, detail: str) -> errors.Usage:
    base = config.base_model_name_or_path
    return errors.Usage(
        f"The adapter {folder} does not fit this model: {detail}.",
        hint=f"It was made for {base}: give that to --model."
        if base
        else "Give --model the model that it was made for.",
    )
