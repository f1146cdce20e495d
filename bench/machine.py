"""The machine and the day, as results name them."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def described() -> str:
    """`2 processors (Intel Xeon …), Linux 6.1, 2026-11-25`."""
    names = [each for each in Path("/proc/cpuinfo").read_text().splitlines() if each.startswith("model name")]
    name = names[0].partition(": ")[2] if names else platform.machine()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{len(os.sched_getaffinity(0))} processors ({name}), {platform.system()} {platform.release()}, {day}"
