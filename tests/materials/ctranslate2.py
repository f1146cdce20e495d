"""Reads CTranslate2's `model.bin` (version 6): nothing but numpy is needed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)


class NotAModelError(ValueError):
    """The bytes are no `model.bin` of version 6."""


@dataclass(frozen=True)
class Model:
    """A model's variables by CTranslate2's names; `aliases` name a variable a second time."""

    spec: str
    revision: int
    variables: dict[str, Array]
    aliases: dict[str, str]


class _Reader:
    """A cursor over little-endian data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        except struct.error as error:
            raise NotAModelError(f"the data end at byte {len(self.data)}, in the middle of a value") from error
        self.at += struct.calcsize(f"<{form}")
        return int(value)

    def string(self) -> str:
        length = self.number("H")
        raw = self.bytes(length)
        if not raw.endswith(b"\0"):
            raise NotAModelError(f"a string at byte {self.at - length} does not end with a zero")
        return raw[:-1].decode()

    def bytes(self, length: int) -> bytes:
        if self.at + length > len(self.data):
            raise NotAModelError(f"the data end at byte {len(self.data)}, {length} more were announced")
        self.at += length
        return self.data[self.at - length : self.at]

    def variable(self) -> Array:
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind = self.number("B")
        if kind >= len(_TYPES):
            raise NotAModelError(f"unknown data type {kind}")
        raw = self.bytes(self.number("I"))
        return np.frombuffer(raw, dtype=np.dtype(_TYPES[kind]).newbyteorder("<")).reshape(shape)


def read(data: bytes) -> Model:
    """Read a whole `model.bin`."""
    reader = _Reader(data)
    version = reader.number("I")
    if version != 6:
        raise NotAModelError(f"version {version}, not 6")
    spec, revision = reader.string(), reader.number("I")
    variables = {reader.string(): reader.variable() for _ in range(reader.number("I"))}
    aliases = {reader.string(): reader.string() for _ in range(reader.number("I"))}
    if reader.at != len(data):
        raise NotAModelError(f"{len(data) - reader.at} bytes are left after the last alias")
    return Model(spec, revision, variables, aliases)
