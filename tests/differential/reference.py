"""openai-whisper on the suite's recordings. What it said is kept: only ours is to be run again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from tests.differential import drawing
from tests.differential.hearing import clips_alone
from tests.differential.options import Draws
from tests.materials import cache, weights
from tests.materials.pins import WEIGHTS

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
        with drawing.there(draws), _ends(self.model):
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
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


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
