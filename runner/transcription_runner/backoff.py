"""How long to wait for a server, and how long it wants to be left alone."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a download goes on: `tries` without a new byte, each waiting `first_wait` seconds, then twice that, …"""

    tries: int = 5
    first_wait: float = 0.5
    connect_seconds: float = 15.0
    stall_seconds: float = 30.0
    """Without a byte, the connection is given up and another one tried."""
    longest_wait: float = 60.0
    """A server that asks for a longer pause (Retry-After) is not waited for."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `Retry-After` header asks for."""
    value = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
