"""Text to tokens and back, for Whisper's vocabularies. Needs the `tokenizers` package, and no torch.

Decoding goes through a table of each token's bytes rather than through the library: it is exact for text cut in the
middle of a character, and costs next to nothing.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from transcription_runner import errors, languages

_NON_SPEECH = [*'"#()*+/:;<=>@[\\]^_`{|}~「」『』']
_NON_SPEECH += ["<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"]
_NON_SPEECH += ["[[", "]]", "{{", "}}", "♪♪", "♪♪♪"]
# Notes and their kin are one token or several; all begin with the same two bytes, so the first token is enough.
_NOTES = [*"♩♪♫♬♭♮♯"]
_REPLACEMENT = "\ufffd"


class Tokenizer:
    """The tokens of one model: special ones by name, text both ways, and words."""

    def __init__(self, fast: FastTokenizer, *, multilingual: bool) -> None:
        """Wrap a tokenizer as the Hub has it. Raises errors.CorruptModelCache if it is not a Whisper model's."""
        # A prompt that spells a special token means its characters.
        fast.encode_special_tokens = True
        self._fast = fast
        self.multilingual = multilingual
        vocabulary = fast.get_vocab(with_added_tokens=True)
        self._bytes = _token_bytes(vocabulary)
        try:
            self.eot: int = vocabulary["<|endoftext|>"]
            self.sot: int = vocabulary["<|startoftranscript|>"]
            self.translate: int = vocabulary["<|translate|>"]
            self.transcribe: int = vocabulary["<|transcribe|>"]
            self.sot_lm: int = vocabulary["<|startoflm|>"]
            self.sot_prev: int = vocabulary["<|startofprev|>"]
            self.no_timestamps: int = vocabulary["<|notimestamps|>"]
        except KeyError as missing:
            raise errors.CorruptModelCache(
                f"the model's tokenizer has no token {missing}: is this a Whisper model?"
            ) from None
        self.no_speech: int | None = vocabulary.get("<|nospeech|>", vocabulary.get("<|nocaptions|>"))
        self.timestamp_begin = self.no_timestamps + 1
        for index in range(1501):
            self._bytes[self.timestamp_begin + index] = f"<|{index * 0.02:.2f}|>".encode()
        self.language_tokens: dict[str, int] = {
            code: token for code in languages.LANGUAGES if (token := vocabulary.get(f"<|{code}|>")) is not None
        }

    @classmethod
    def load(cls, folder: Path, *, multilingual: bool) -> Tokenizer:
        """From a model's folder: its `tokenizer.json`, or `vocab.json` and `merges.txt`.

        Raises errors.CorruptModelCache.
        """
        if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
            raise errors.CorruptModelCache(
                f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.json and merges.txt.",
                hint="Save the tokenizer beside the model (processor.save_pretrained), or copy the base model's files.",
            )
        try:
            if (folder / "tokenizer.json").exists():
                return cls(FastTokenizer.from_file(str(folder / "tokenizer.json")), multilingual=multilingual)
            return cls(_slow(folder), multilingual=multilingual)
        except errors.RunnerError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise errors.CorruptModelCache(f"the tokenizer in {folder} cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without timestamps."""
        begin = self.timestamp_begin
        return self._text(token for token in tokens if token < begin)

    def decode_with_timestamps(self, tokens: Sequence[int]) -> str:
        """The text of tokens, with timestamps as <|1.08|>."""
        return self._text(tokens)

    def _text(self, tokens: Iterable[int]) -> str:
        table = self._bytes
        return b"".join([table.get(token, b"") for token in tokens]).decode("utf-8", "replace")

    def start(self, language: str | None, task: str) -> tuple[int, ...]:
        """What a transcript begins with: start, language, task; the start alone for a model of one language."""
        if not self.multilingual:
            return (self.sot,)
        token = self.language_tokens.get(language or "en")
        if token is None:
            raise errors.Usage(f"this model has no token for the language {language}")
        return (self.sot, token, self.translate if task == "translate" else self.transcribe)

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of speaker tags, notes and other marks of what nobody said; basic punctuation is not among them."""
        result = {self.encode(" -")[0], self.encode(" '")[0]}
        for symbol in _NON_SPEECH + _NOTES:
            for tokens in (self.encode(symbol), self.encode(" " + symbol)):
                if len(tokens) == 1 or symbol in _NOTES:
                    result.add(tokens[0])
        return tuple(sorted(result))

    def suppressed(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Tokens never to be sampled, sorted: those wanted (-1: all that is not speech) and the special ones."""
        result = {token for token in wanted if token >= 0}
        if -1 in wanted:
            result.update(self.non_speech_tokens)
        result.update((self.transcribe, self.translate, self.sot, self.sot_prev, self.sot_lm))
        if self.no_speech is not None:
            result.add(self.no_speech)
        return tuple(sorted(result))

    def split_to_words(self, tokens: Sequence[int], language: str | None) -> tuple[list[str], list[list[int]]]:
        """Words and the tokens of each. Where a language has no spaces, every whole character is a word."""
        words, word_tokens = self._split_on_characters(tokens)
        if language in languages.WITHOUT_SPACES:
            return words, word_tokens
        return self._join_to_words(words, word_tokens)

    def _split_on_characters(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        whole = self.decode_with_timestamps(tokens)
        words: list[str] = []
        word_tokens: list[list[int]] = []
        current: list[int] = []
        offset = 0
        for token in tokens:
            current.append(token)
            text = self.decode_with_timestamps(current)
            # A replacement that the whole text has at this place too is what was said, not half a character.
            cut = text.find(_REPLACEMENT)
            if cut < 0 or (offset + cut < len(whole) and whole[offset + cut] == _REPLACEMENT):
                words.append(text)
                word_tokens.append(current)
                current = []
                offset += len(text)
        return words, word_tokens

    def _join_to_words(self, parts: list[str], part_tokens: list[list[int]]) -> tuple[list[str], list[list[int]]]:
        words: list[str] = []
        word_tokens: list[list[int]] = []
        for part, tokens in zip(parts, part_tokens, strict=True):
            special = tokens[0] >= self.eot
            punctuation = part.strip() in string.punctuation
            if special or part.startswith(" ") or punctuation or not words:
                words.append(part)
                word_tokens.append(list(tokens))
            else:
                words[-1] += part
                word_tokens[-1].extend(tokens)
        return words, word_tokens


def _slow(folder: Path) -> FastTokenizer:
    """A tokenizer from the two files of older repositories, and the special tokens beside them."""
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = [
        tuple(line.split(" "))
        for line in (folder / "merges.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#version")
    ]
    fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges))  # type: ignore[arg-type]
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    added = folder / "added_tokens.json"
    if added.exists():
        tokens = json.loads(added.read_text("utf-8"))
        fast.add_special_tokens(sorted(tokens, key=tokens.__getitem__))
    return fast


def _token_bytes(vocabulary: dict[str, int]) -> dict[int, bytes]:
    """The bytes of every token: byte-level vocabularies write each byte as a printable character."""
    characters = _byte_characters()
    table = {}
    for token, number in vocabulary.items():
        try:
            table[number] = bytes(characters[character] for character in token)
        except KeyError:
            table[number] = token.encode()
    return table


def _byte_characters() -> dict[str, int]:
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}
