"""The tokenizer against openai-whisper's."""

from __future__ import annotations

import pytest

from transcription_runner import errors
from transcription_runner.tokenizer import Tokenizer

reference = pytest.importorskip("whisper.tokenizer")

TEXTS = [
    " And Mr. John Dashwood had then leisure",
    " Müßiggang ist aller Laster Anfang – «déjà vu» ¿qué?",
    " 日本語のテキスト 🎙️ emoji",
    "  two  spaces\n\nlines\t",
    " 12:30 3.14 'tis <|notimestamps|> it's",
    "♪♪ la la ♪",
]


@pytest.fixture(scope="module", params=["base", "tiny.en"])
def pair(request, whisper_base, whisper_tiny_en):
    multilingual = request.param == "base"
    folder = whisper_base if multilingual else whisper_tiny_en
    return Tokenizer.load(folder, multilingual=multilingual), reference.get_tokenizer(
        multilingual,
        num_languages=99,
        language="en" if multilingual else None,
        task="transcribe" if multilingual else None,
    )


def test_text_both_ways(pair):
    ours, theirs = pair
    for text in TEXTS:
        tokens = theirs.encoding.encode(text, disallowed_special=())
        assert ours.encode(text) == tokens
        assert ours.decode(tokens) == text
        for cut in range(len(tokens)):  # characters cut in the middle too
            assert ours.decode(tokens[cut:]) == theirs.decode(tokens[cut:])
            assert ours.decode(tokens[:cut]) == theirs.decode(tokens[:cut])


def test_special_tokens(pair):
    ours, theirs = pair
    for name in (
        "eot",
        "sot",
        "translate",
        "transcribe",
        "sot_lm",
        "sot_prev",
        "no_speech",
        "no_timestamps",
        "timestamp_begin",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.non_speech_tokens == theirs.non_speech_tokens
    assert ours.start("en", "transcribe") == theirs.sot_sequence
    if ours.multilingual:
        assert sorted(ours.language_tokens.values()) == sorted(theirs.all_language_tokens)
    stamped = [ours.timestamp_begin, *theirs.encode(" a"), ours.timestamp_begin + 54, ours.eot]
    assert ours.decode_with_timestamps(stamped) == theirs.decode_with_timestamps(stamped)
    assert ours.decode(stamped[:-1]) == " a"


def test_words(pair):
    ours, theirs = pair
    for language in ("en", "ja") if ours.multilingual else ("en",):
        if ours.multilingual:
            theirs = reference.get_tokenizer(True, language=language, task="transcribe")
        for text in TEXTS:
            tokens = [*ours.encode(text), ours.eot]
            assert ours.split_to_words(tokens, language) == theirs.split_to_word_tokens(tokens)


def test_a_folder_with_the_older_files(whisper_base, tmp_path):
    import json

    whole = json.loads((whisper_base / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    (tmp_path / "added_tokens.json").write_text(
        json.dumps(
            {
                each["content"]: each["id"]
                for each in whole["added_tokens"]
                if each["content"] not in whole["model"]["vocab"]
            }
        )
    )
    ours, theirs = (Tokenizer.load(folder, multilingual=True) for folder in (tmp_path, whisper_base))
    assert ours.sot == theirs.sot
    assert ours.language_tokens == theirs.language_tokens
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_a_broken_folder_is_a_corrupt_cache(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(errors.CorruptModelCache):
        Tokenizer.load(tmp_path, multilingual=True)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(errors.CorruptModelCache):
        Tokenizer.load(tmp_path, multilingual=True)
