"""Waiting for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster.errors import ClusterError


def until(condition: Callable[[], bool], what: str, seconds: float, pause: float = 0.05) -> None:
    """Return when the condition holds; raise with what was waited for when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
