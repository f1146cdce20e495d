"""A model of transformers' as CTranslate2 reads it, for faster-whisper: `python -m bench.conversion FOLDER TARGET`."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.worker import call
from tests.materials import cache, weights

_KEPT = ("tokenizer.json", "preprocessor_config.json")


def convert(folder: Path, target: Path, quantization: str | None = None) -> None:
    """Write CTranslate2's folder. quantization: as which type the weights are stored; None for the model's own."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder), copy_files=list(_KEPT)).convert(str(target), quantization=quantization)


def converted(name: str) -> Path:
    """OpenAI's weights of this name in float32, made in a process of its own and kept."""
    folder = weights.repository(name)

    def build(target: Path) -> None:
        call("bench.conversion", [str(folder), str(target)], threads=2)

    return cache.build_once(cache.materials() / "ctranslate2" / name, build, what=f"{name} for faster-whisper")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
