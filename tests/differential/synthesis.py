"""A synthetic voice, for text of any length: flite's `slt`, from Debian's packages."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.materials import cache, speech

_PACKAGES = ("flite", "libflite1", "libasound2")


def said(name: str, text: str) -> Path:
    """Return a wav file, 16 kHz mono, with the text spoken; made now if it has not been made before."""

    def build(path: Path) -> None:
        libraries = ":".join(str(folder) for folder in _program().glob("usr/lib/*-linux-gnu"))
        subprocess.run(
            [_program() / "usr/bin/flite", "-voice", "slt", "-t", text, "-o", path],
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )

    return cache.build_once(cache.materials() / "synthesis" / name, build)


def _program() -> Path:
    return cache.build_once(cache.materials() / "flite", _unpack, what="flite from Debian's packages")


def _unpack(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for package in speech.download(_PACKAGES, Path(scratch)):
            subprocess.run(["dpkg-deb", "-x", package, target], check=True)
