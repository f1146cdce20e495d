"""Memory that is free goes back to the system now and then, so that a long run takes no more of it than a short one.

The C library keeps what is freed between two pieces in use. A batch's tensors come and go in sizes that seldom fit the
gaps which others left, and over a day of sound the gaps add up to hundreds of megabytes.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Final

_EVERY: Final = 2.0
"""Seconds between two times: one takes some milliseconds, and the memory must be had anew afterwards."""


def _malloc_trim() -> Callable[[int], object] | None:
    """glibc's; None where the C library is another."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


class Heap:
    """The process's heap."""

    def __init__(self, every: float = _EVERY) -> None:
        """Give memory back no sooner than after `every` seconds, and as long after each time."""
        self._every = every
        self._trim = _malloc_trim()
        self._since = time.monotonic()

    def tidy(self) -> None:
        """Give back what is free, if it is time."""
        if self._trim is not None and time.monotonic() - self._since >= self._every:
            self._trim(0)
            self._since = time.monotonic()
