"""OpenAI's weights, rebuilt: both programs load them strictly and write the reader's very words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.materials import ctranslate2, pins, speech, tokens, weights
from tests.materials.tiny_random import tiny_random

DASHWOOD = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do for them."
)


def test_repositories_hold_the_files_that_the_hub_has(whisper_base: Path, whisper_tiny_en: Path) -> None:
    # Every file's sha256 is checked when they are built (weights.py), against the Hub's own.
    for folder, pin in ((whisper_base, pins.BASE), (whisper_tiny_en, pins.TINY_EN)):
        assert {file.name for file in folder.iterdir()} == set(pin.files)
        assert all(file.stat().st_mode & 0o444 == 0o444 for file in folder.iterdir())


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_transformers_loads_them_strictly_and_writes_the_words(name: str) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    repository = weights.repository(name)
    model, loading = WhisperForConditionalGeneration.from_pretrained(repository, output_loading_info=True)
    assert not any(loading.values()), loading
    processor = WhisperProcessor.from_pretrained(repository)
    sound = speech.dashwood().samples()
    features = processor(sound, sampling_rate=speech.RATE, return_tensors="pt").input_features
    ids = model.generate(features, return_timestamps=True)
    assert processor.batch_decode(ids, skip_special_tokens=True) == [f" {DASHWOOD}"]


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_openai_whisper_writes_the_words(name: str) -> None:
    model = weights.openai_whisper(name)
    assert model.is_multilingual == (name == "base")
    written = model.transcribe(speech.dashwood().samples(), fp16=False, temperature=0)
    assert written["text"] == f" {DASHWOOD}"
    assert written["language"] == "en"


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_the_tokenizer_makes_the_tokens_of_openai_whisper(name: str) -> None:
    import tokenizers
    from whisper.tokenizer import get_tokenizer

    theirs = get_tokenizer(name == "base", num_languages=99)
    ours = tokenizers.Tokenizer.from_file(str(weights.repository(name) / "tokenizer.json"))
    for text in (" the party, to the end", "Où est-ce qu'il va ? ¿Mañana?", " 日本語 привет", DASHWOOD):
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)
    special = {
        "<|startoftranscript|>": theirs.sot,
        "<|nocaptions|>": theirs.no_speech,
        "<|notimestamps|>": theirs.no_timestamps,
        "<|0.00|>": theirs.timestamp_begin,
    }
    assert {mark: ours.token_to_id(mark) for mark in special} == special


def test_the_generation_config_says_what_openai_whisper_knows(whisper_base: Path) -> None:
    generation = json.loads((whisper_base / "generation_config.json").read_text())
    model = weights.openai_whisper("base")
    assert sorted(generation["alignment_heads"]) == sorted(model.alignment_heads.indices().T.tolist())
    assert len(generation["lang_to_id"]) == 99
    assert generation["lang_to_id"]["<|fr|>"] == 50265


def test_a_random_model_is_whole_and_always_the_same(tiny_random_whisper: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model, loading = WhisperForConditionalGeneration.from_pretrained(tiny_random_whisper, output_loading_info=True)
    assert not any(loading.values()), loading
    assert sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
    processor = WhisperProcessor.from_pretrained(tiny_random_whisper)
    features = processor(np.zeros(16000), sampling_rate=16000, return_tensors="pt").input_features
    assert model.generate(features, max_new_tokens=5, language="fr").shape[1] > 0
    assert tiny_random() == tiny_random_whisper
    assert tiny_random(seed=1) != tiny_random_whisper


def ct2_string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def ct2_model(version: int = 6) -> bytes:
    values = np.arange(6, dtype="<f2").reshape(2, 3)
    heads = np.int16(8)
    return b"".join(
        [
            struct.pack("<I", version) + ct2_string("WhisperSpec") + struct.pack("<II", 3, 2),
            ct2_string("a/weight") + struct.pack("<BIIBI", 2, 2, 3, 4, values.nbytes) + values.tobytes(),
            ct2_string("a/heads") + struct.pack("<BBI", 0, 2, 2) + heads.tobytes(),
            struct.pack("<I", 1) + ct2_string("b/weight") + ct2_string("a/weight"),
        ]
    )


def test_reads_ctranslate2() -> None:
    model = ctranslate2.read(ct2_model())
    assert (model.spec, model.revision, model.aliases) == ("WhisperSpec", 3, {"b/weight": "a/weight"})
    assert model.variables["a/weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert int(model.variables["a/heads"]) == 8


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (ct2_model(version=5), "version 5"),
        (ct2_model()[:-3], "end at byte"),
        (ct2_model()[:40], "end at byte"),
        (ct2_model() + b"x", "1 bytes are left"),
        (b"", "end at byte 0"),
    ],
)
def test_says_what_is_wrong_with_a_model(data: bytes, trouble: str) -> None:
    with pytest.raises(ctranslate2.NotAModelError, match=trouble):
        ctranslate2.read(data)


def test_a_lost_merge_is_put_back(whisper_base: Path, tmp_path: Path) -> None:
    stored = json.loads((whisper_base / "tokenizer.json").read_text())
    whole = tokens.read(whisper_base / "tokenizer.json")
    stored["model"]["merges"] = [merge.split(" ") for merge in stored["model"]["merges"] if merge != "Ġ t"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    assert tokens.read(tmp_path / "tokenizer.json") == whole
