"""Where things lie: everything that is built or kept is in a cache outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def cache_root() -> Path:
    """The machine's cache, shared by every checkout on it."""
    if chosen := os.environ.get("TRANSCRIPTION_CACHE"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    parent = Path(base) if base else Path.home() / ".cache"
    return (parent / "transcription-operator").resolve()


def clusters_root() -> Path:
    """One folder for every cluster that any checkout has started."""
    return cache_root() / "clusters"
