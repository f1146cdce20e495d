"""The tokenizer's files of a Hub repository, and the token ids that its other files name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Times from <|0.00|> to <|30.00|> in steps of 20 ms.
TIMESTAMPS = 1501
_MERGES = 50_000
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """A Whisper vocabulary: text tokens and their merges, special tokens by id, then the timestamps."""

    text: dict[str, int]
    merges: list[str]
    special: dict[str, int]

    @property
    def multilingual(self) -> bool:
        return self.end == 50257

    @property
    def end(self) -> int:
        return self.special[_END]

    @property
    def start(self) -> int:
        return self.special["<|startoftranscript|>"]

    @property
    def previous(self) -> int:
        return self.special["<|startofprev|>"]

    @property
    def transcribe(self) -> int:
        return self.special["<|transcribe|>"]

    @property
    def translate(self) -> int:
        return self.special["<|translate|>"]

    @property
    def no_timestamps(self) -> int:
        return self.special["<|notimestamps|>"]

    @property
    def languages(self) -> dict[str, int]:
        """Language tokens (`<|en|>`) by id: they lie between the start and the first task."""
        return {name: id_ for name, id_ in self.special.items() if self.start < id_ < self.translate}

    @property
    def timestamps(self) -> dict[str, int]:
        return {f"<|{index * 0.02:.2f}|>": self.no_timestamps + 1 + index for index in range(TIMESTAMPS)}


def read(path: Path) -> Vocabulary:
    """Read the vocabulary from a package's `tokenizer.json`, and mend it where the package's has a flaw."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in stored["added_tokens"] if token["special"]}
    text = {token: id_ for token, id_ in stored["model"]["vocab"].items() if token not in special}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in stored["model"]["merges"]]
    if len(merges) == _MERGES - 1 and "Ġ t" not in merges:
        # A file without a "#version" line was once read as if it had one. Without this merge " the" becomes
        # two tokens, which is not what openai-whisper's own tokenizer makes of it.
        merges.insert(0, "Ġ t")
    if len(merges) != _MERGES:
        raise ValueError(f"{path}: {len(merges)} merges instead of {_MERGES}")
    # What openai-whisper calls `<|nospeech|>` the Hub calls thus; the packages have one or the other.
    special = {"<|nocaptions|>" if name == "<|nospeech|>" else name: id_ for name, id_ in special.items()}
    return Vocabulary(text, merges, special)


def write(vocabulary: Vocabulary, folder: Path) -> None:
    """Write every file that a Hub repository has of the tokenizer, byte for byte as the Hub's."""
    added = {**vocabulary.special, **vocabulary.timestamps}

    def token(content: str) -> dict[str, Any]:
        special = content in vocabulary.special
        return {
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": not special,
            "special": special,
        }

    # The English models' files leave the end out here.
    marks = [name for name in vocabulary.special if name != _END or vocabulary.multilingual]

    def template(*parts: dict[str, Any]) -> list[dict[str, Any]]:
        def special(name: str) -> dict[str, Any]:
            return {"SpecialToken": {"id": name, "type_id": 0}}

        end = {"SpecialToken": {"id": _END, "type_id": len(parts) - 1}}
        return [special("<|startoftranscript|>"), special("<|notimestamps|>"), *parts, end]

    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    used = ("<|endoftext|>", "<|notimestamps|>", "<|startoftranscript|>")
    _dump(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": id_, **token(content)} for content, id_ in added.items()],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template(first),
                "pair": template(first, second),
                "special_tokens": {name: {"id": name, "ids": [added[name]], "tokens": [name]} for name in used},
            },
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": {**vocabulary.text, _END: vocabulary.end},
                "merges": vocabulary.merges,
            },
        },
        end="",
    )
    _dump(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(id_): dict(sorted(token(content).items())) for content, id_ in added.items()},
            "additional_special_tokens": marks,
            "bos_token": _END,
            "clean_up_tokenization_spaces": True,
            "eos_token": _END,
            "errors": "replace",
            "model_max_length": 1024,
            "pad_token": _END,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "tokenizer_class": "WhisperTokenizer",
            "unk_token": _END,
        },
    )
    end = {"content": _END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    _dump(
        folder / "special_tokens_map.json",
        {
            "additional_special_tokens": marks,
            "bos_token": end,
            "eos_token": end,
            "pad_token": end,
            "unk_token": end,
        },
    )
    _dump(folder / "added_tokens.json", dict(sorted((name, id_) for name, id_ in added.items() if name != _END)))
    vocab = {**vocabulary.text, _END: vocabulary.end}
    if vocabulary.multilingual:
        compact = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
        (folder / "vocab.json").write_text(compact, encoding="utf-8")
    else:
        _dump(folder / "vocab.json", dict(sorted(vocab.items())))
    merges = "\n".join(["#version: 0.2", *vocabulary.merges, ""])
    (folder / "merges.txt").write_text(merges, encoding="utf-8")


def _dump(path: Path, value: Any, end: str = "\n") -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + end, encoding="utf-8")
