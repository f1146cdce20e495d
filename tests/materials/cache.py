"""The folder outside the checkout where everything is built once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.materials import pins


def root() -> Path:
    """Return the project's cache: `TRANSCRIPTION_CACHE`, or a folder of its own in the user's cache."""
    if configured := os.environ.get("TRANSCRIPTION_CACHE"):
        return Path(configured)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "transcription-operator"


def materials() -> Path:
    """Return the folder of what is built from these pins."""
    return root() / f"materials-{pins.digest()}"


def say(message: str) -> None:
    """Tell a person what goes on; standard output is for results."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(path: Path, build: Callable[[Path], None], *, what: str | None = None) -> Path:
    """Return `path`, made by `build` if it is not there yet.

    `build` gets a path of the same name in a folder of its own and fills it (a file or a folder); only when
    it has returned does the result appear under its name. Others who want the same wait for the first.
    """
    if path.exists():
        return path
    key = "--".join(path.relative_to(path.parents[-2]).parts[-4:])
    with _locked(materials() / ".locks" / f"{key}.lock"):
        if path.exists():
            return path
        workshop = path.parent / f".building-{path.name}"
        shutil.rmtree(workshop, ignore_errors=True)  # left by a builder that was killed: we hold its lock
        workshop.mkdir(parents=True)
        started = time.monotonic()
        if what:
            say(f"materials: building {what} ...")
        try:
            build(workshop / path.name)
            (workshop / path.name).rename(path)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
        if what:
            say(f"materials: built {what} in {time.monotonic() - started:.1f} s ({size(path) / 1e6:.1f} MB)")
    return path


def size(path: Path) -> int:
    """Return the bytes that a file or a folder holds."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
