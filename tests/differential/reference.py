"""openai-whisper on the suite's recordings. What it said is kept: only ours is to be run again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import torch
import whisper  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor

from tests.differential import drawing
from tests.differential.hearing import clips_alone
from tests.differential.options import Draws
from tests.materials import cache, weights
from tests.materials.pins import WEIGHTS
from transcription_runner.quiet import DigitalSilence

#: The module: its package has a function of that name.
_WHISPER = sys.modules[whisper.transcribe.__module__]
#: Raised when the way in which it is run changes.
_FORMAT = 1
#: Windows after which it is taken to go on for ever. A recording of 90 s has 3 to 40 of them.
_WINDOWS = 400


class EndlessError(RuntimeError):
    """openai-whisper did not come to an end."""


class Reference:
    """openai-whisper with one model on the CPU, in float32."""

    def __init__(self, name: str) -> None:
        """`base` or `tiny.en`; loaded when it is first needed."""
        self.name = name

    @cached_property
    def model(self) -> Any:
        """openai-whisper's model."""
        return weights.openai_whisper(self.name)

    def said(self, heard: NDArray[np.float32], asked: dict[str, Any], draws: Draws) -> dict[str, Any]:
        """openai-whisper's result, from the cache if it is there. Raises EndlessError."""
        key = self._key(heard, asked, draws)
        path = cache.materials() / "differential" / self.name / key[:2] / f"{key}.json"

        def build(target: Any) -> None:
            try:
                said = self.say(heard, asked, draws)
            except EndlessError:
                said = {"endless": True}
            target.write_text(json.dumps(said), encoding="utf-8")

        said: dict[str, Any] = json.loads(cache.build_once(path, build).read_text(encoding="utf-8"))
        if "endless" in said:
            raise EndlessError
        return said

    def say(self, heard: NDArray[np.float32], asked: dict[str, Any], draws: Draws) -> dict[str, Any]:
        """openai-whisper's result, now. Raises EndlessError."""
        if clips := asked.get("clip_timestamps"):
            heard = clips_alone(heard, clips)
        if self.name.endswith(".en"):  # as its command does
            asked = {**asked, "language": "en"}
        silent = _silent(heard, asked)
        with drawing.there(draws), _ends(self.model), _hears_silence(self.model, silent):
            said: dict[str, Any] = self.model.transcribe(heard, fp16=False, verbose=None, **asked)
        return said

    def _key(self, heard: NDArray[np.float32], asked: dict[str, Any], draws: Draws) -> str:
        parts = (
            _FORMAT,
            WEIGHTS[self.name].files["model.safetensors"],
            [importlib.metadata.version(name) for name in ("openai-whisper", "torch", "numpy")],
            torch.get_num_threads(),
            hashlib.sha256(heard.tobytes()).hexdigest(),
            sorted(asked.items()),
            draws.name,
            *(["digital silence"] if _silent(heard, asked) else []),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _silent(heard: NDArray[np.float32], asked: dict[str, Any]) -> DigitalSilence | None:
    """The recording's digital silence, where ours leaves that out (docs/differences.md); None if there is none."""
    if asked.get("no_speech_threshold", 0.6) is None:
        return None
    silence = DigitalSilence()
    silence.add(0, (heard * 32768).astype(np.int16))
    return silence if silence.stretches else None


@contextlib.contextmanager
def _hears_silence(model: Any, silence: DigitalSilence | None) -> Iterator[None]:
    """Have openai-whisper take windows of digital silence for silence, without asking its model."""
    if silence is None:
        yield
        return
    decode, pad = model.decode, _WHISPER.pad_or_trim
    silent = False
    nothing = whisper.DecodingResult(None, "en", no_speech_prob=math.inf, avg_logprob=-math.inf, compression_ratio=1.0)

    def cut(mel: Tensor, *arguments: Any) -> Any:
        # A window is a view into the whole recording's mel: where it begins there is its place.
        nonlocal silent
        start = int(mel.storage_offset())
        silent = silence.covers(start, start + int(mel.shape[-1]))
        return pad(mel, *arguments)

    def decided(*arguments: Any) -> Any:
        return nothing if silent else decode(*arguments)

    with mock.patch.object(model, "decode", decided), mock.patch.object(_WHISPER, "pad_or_trim", cut):
        yield


@contextlib.contextmanager
def _ends(model: Any) -> Iterator[None]:
    decode = model.decode
    windows = 0

    def counted(*arguments: Any) -> Any:
        nonlocal windows
        windows += 1
        if windows > _WINDOWS:
            raise EndlessError
        return decode(*arguments)

    with mock.patch.object(model, "decode", counted):
        yield
