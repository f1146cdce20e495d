"""Engines, loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.differential.reference import Reference
from transcription_runner.engine import Engine, load_engine


@pytest.fixture(scope="session")
def base(whisper_base: Path) -> Engine:
    return load_engine(whisper_base, device="cpu")


@pytest.fixture(scope="session")
def tiny_en(whisper_tiny_en: Path) -> Engine:
    return load_engine(whisper_tiny_en, device="cpu")


@pytest.fixture(scope="session")
def random_engine(tiny_random_whisper: Path) -> Engine:
    return load_engine(tiny_random_whisper, device="cpu")


@pytest.fixture(scope="session")
def reference_base() -> Reference:
    return Reference("base")


@pytest.fixture(scope="session")
def reference_tiny_en() -> Reference:
    return Reference("tiny.en")


@pytest.fixture(scope="session")
def openai_tiny_en(reference_tiny_en: Reference) -> Any:
    return reference_tiny_en.model
