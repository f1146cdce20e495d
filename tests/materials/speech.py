"""People's recordings with known words, from Debian's packages.

They are fetched as packages and unpacked into the cache; nothing is installed. Readers and voices:
`librivox` (five sentences of *Sense and Sensibility*), `cards` (five short ones), `en`, `es`, `fr` (Asterisk's
telephone prompts: three languages, two voices).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remember
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.materials import cache, pins
from tests.materials.words import CORRECTED

#: Samples a second of every clip.
RATE = 16000

Samples = NDArray[np.float32]

_SPHINX = "usr/share/pocketsphinx/test/data"
_VOICES = {"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June"}
#: What is kept: a folder of the cache, and the recordings and their texts in the packages.
_KEPT = {
    "librivox": (f"{_SPHINX}/librivox/*.wav", f"{_SPHINX}/librivox/transcription"),
    "cards": (f"{_SPHINX}/cards/*.wav", f"{_SPHINX}/cards/cards.transcription"),
    **{
        language: (
            f"usr/share/asterisk/sounds/{voice}/*.g722",
            f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz",
        )
        for language, voice in _VOICES.items()
    },
}


@dataclass(frozen=True)
class Clip:
    """A recording of one person saying `text`."""

    #: `en/vm-goodbye`: the folder and the file's name.
    name: str
    path: Path
    text: str
    language: str
    seconds: float

    def samples(self) -> Samples:
        """Return the sound: mono, 16 kHz, -1 to 1."""
        return _decode(self.path).copy()


class SpeechUnavailableError(RuntimeError):
    """The packages cannot be had, or hold something else than they did."""


def folder() -> Path:
    """Return the folder of recordings, fetched if it is not there yet."""
    return cache.build_once(cache.materials() / "speech", _build, what="recordings from Debian's packages")


@remember
def clips(group: str) -> dict[str, Clip]:
    """Return a group's recordings by name, those without known words left out."""
    texts = _sphinx_texts(folder() / group) if group in ("librivox", "cards") else _prompts(folder() / group)
    language = group if group in _VOICES else "en"
    found = {}
    for name, text in texts.items():
        path = next((folder() / group).glob(f"{name}.[wg]*"), None)
        if path is not None:
            full = f"{group}/{name}"
            found[name] = Clip(full, path, CORRECTED.get(full, text), language, _seconds(path))
    return found


def clip(name: str) -> Clip:
    """Return one recording, by a name such as `fr/vm-goodbye`."""
    group, _, short = name.partition("/")
    return clips(group)[short]


def dashwood() -> Clip:
    """Return the sentence that base and tiny.en write word for word in every program."""
    return clip("librivox/sense_and_sensibility_01_austen_64kb-0870")


@lru_cache(maxsize=32)
def _decode(path: Path) -> Samples:
    if path.suffix == ".wav":
        with wave.open(str(path)) as file:
            raw = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    else:
        import av

        with av.open(str(path), format="g722") as container:
            raw = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    samples: Samples = raw.astype(np.float32) / np.float32(32768)
    return samples


def _seconds(path: Path) -> float:
    if path.suffix == ".g722":
        return float(path.stat().st_size * 2 / RATE)  # two samples a byte
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())


def _sphinx_texts(group: Path) -> dict[str, str]:
    """Read `<s> words </s> (file)` lines."""
    line = re.compile(r"<s>\s*(.*?)\s*</s>\s*\((.*)\)")
    matches = (line.match(row) for row in (group / "texts").read_text().splitlines())
    return {match[2]: match[1] for match in matches if match}


def _prompts(group: Path) -> dict[str, str]:
    """Read Asterisk's `file: words` lines; what is in brackets is no speech."""
    texts = {}
    for row in (group / "texts").read_text(encoding="utf-8").splitlines():
        name, colon, text = row.partition(":")
        text = text.strip().strip(".").strip() + "." if text.strip().endswith("...") else text.strip()
        text = text.removeprefix("...").strip()
        if colon and not row.startswith(";") and "/" not in name and text and not re.search(r"[\[\](<]", text):
            texts[name] = text
    return texts


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        scratch = Path(name)
        for package in download(pins.SPEECH_PACKAGES, scratch):
            subprocess.run(["dpkg-deb", "-x", package, scratch / "root"], check=True)
        for group, (sounds, texts) in _KEPT.items():
            into = target / group
            into.mkdir(parents=True)
            for sound in (scratch / "root").glob(sounds):
                shutil.copyfile(sound, into / sound.name)
            words = (scratch / "root" / texts).read_bytes()
            (into / "texts").write_bytes(gzip.decompress(words) if texts.endswith(".gz") else words)
    wrong = [group for group in _KEPT if fingerprint(target / group) != pins.SPEECH[group]]
    if wrong:
        raise SpeechUnavailableError(
            f"the packages hold other recordings or words than before in: {', '.join(wrong)}. Listen to what "
            "changed, then put these hashes into tests/materials/pins.py: "
            + ", ".join(f"{group} {fingerprint(target / group)}" for group in wrong)
        )


def fingerprint(group: Path) -> str:
    """Return a sha256 over a group's files: their names and contents."""
    total = hashlib.sha256()
    for path in sorted(group.iterdir()):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def download(packages: Sequence[str], into: Path) -> list[Path]:
    """Fetch Debian's packages from wherever this machine's apt gets its own; return the files."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SpeechUnavailableError(
            "recordings come from Debian's packages, and this machine has no apt-get: run this on Debian or "
            f"Ubuntu (a container will do) and copy {cache.materials() / 'speech'} from there"
        )
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages]
    fetched = subprocess.run(command, cwd=into, capture_output=True, text=True)
    if fetched.returncode != 0 and os.geteuid() == 0:
        cache.say("materials: apt's lists are missing or old: apt-get update")
        subprocess.run(["apt-get", "-qq", "update"], check=False, capture_output=True)
        fetched = subprocess.run(command, cwd=into, capture_output=True, text=True)
    if fetched.returncode != 0:
        raise SpeechUnavailableError(
            f"apt-get download failed (as root, `apt-get update` is tried too): {fetched.stderr.strip()}"
        )
    return sorted(into.glob("*.deb"))
