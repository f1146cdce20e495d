"""A random model has the architecture and the tokens of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import random_model
from bench.limit import SIZES
from transcription_runner.tokenizer import Tokenizer


@pytest.mark.parametrize("name", sorted(SIZES))
def test_the_vocabulary_fills_the_model(name: str) -> None:
    words = random_model.vocabulary(name)
    ids = [*words.text.values(), *words.special.values(), *words.timestamps.values()]
    assert ids == list(range(SIZES[name].vocab_size))


@pytest.mark.parametrize(("name", "repository"), [("base", "whisper_base"), ("tiny.en", "whisper_tiny_en")])
def test_it_is_as_the_real_one(name: str, repository: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(repository)
    real = json.loads((folder / "config.json").read_text())
    ours = random_model.config(name)
    differing = {key for key in ours if key in real and ours[key] != real[key]}
    # The English models' real config gives the start as the first token.
    assert differing <= {"torch_dtype", "bos_token_id"}
    added = json.loads((folder / "added_tokens.json").read_text())
    special = random_model.vocabulary(name).special
    for mark in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|nocaptions|>", "<|notimestamps|>"):
        assert special[mark] == added[mark]


def test_the_whole_folder_is_a_model(tmp_path: Path) -> None:
    random_model.write("tiny.en", tmp_path)
    tokenizer = Tokenizer.load(tmp_path, multilingual=False)
    assert tokenizer.eot == 50256
    assert tokenizer.decode(tokenizer.encode("as it is")) == "as it is"
    held = {"config.json", "generation_config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"}
    assert held <= {file.name for file in tmp_path.iterdir()}
