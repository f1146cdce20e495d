"""What the work queue holds: which resource to bring a step further."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Key:
    """A TranscriptionJob."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, order=True)
class ModelKey:
    """A WhisperModel."""

    name: str

    def __str__(self) -> str:
        return f"whispermodel/{self.name}"


AnyKey = Key | ModelKey


@dataclass(frozen=True)
class Outcome:
    """What became of a reconcile: whether to look again, at once or later."""

    again: bool = False
    after: float | None = None
