"""What a call of the command asks for, once its arguments are understood."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from transcription_runner.names import ModelName
from transcription_runner.options import TranscribeOptions
from transcription_runner.sources import Source
from transcription_runner.writers import Layout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every file of one call."""

    model: ModelName
    roots: Sequence[Path]
    options: TranscribeOptions
    layout: Layout
    formats: Sequence[str]
    output_dir: Path
    output: str | None = None
    device: str = "auto"
    compute_type: str = "auto"
    threads: int | None = None
    num_workers: int | None = None
    engine: str = "transformers"
    adapter: ModelName | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    """One file to transcribe, and what its transcript is called."""

    source: Source
    name: str


@functools.cache
def runner_version() -> str:
    """This distribution's version."""
    try:
        return metadata.version("transcription-operator")
    except metadata.PackageNotFoundError:
        return "unknown"
