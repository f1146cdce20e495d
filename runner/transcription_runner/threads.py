"""How many threads there are for what: processors that this process may use, and those that torch computes in."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from pathlib import Path
from typing import Final

import torch

_MOST_READERS: Final = 8


def available_cpus() -> int:
    """Processors that this process may use: its affinity, and its cgroup's share."""
    count = len(os.sched_getaffinity(0))
    for quota_file, period_file in (
        (Path("/sys/fs/cgroup/cpu.max"), None),
        (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
    ):
        with contextlib.suppress(OSError, ValueError):
            words = quota_file.read_text().split()
            period = int(period_file.read_text()) if period_file else int(words[1])
            if words[0] != "max" and int(words[0]) > 0:
                count = min(count, max(1, math.ceil(int(words[0]) / period)))
    return count


def readers_for(device: str) -> int:
    """Threads that open and hear files. One hears some 400 times real time: enough for an engine on processors."""
    cpus = available_cpus()
    return max(1, min(_MOST_READERS, cpus // 2)) if device == "cuda" else 1 + cpus // 16


def decodes_elsewhere(device: str) -> bool:
    """Whether files are decoded in processes of their own: a GPU takes more than one process's threads can give."""
    return device == "cuda"


def one_thread() -> None:
    """Let torch compute in this thread alone: what hearing takes is small, and the engine has use for the others.

    The number of threads is a thread's own, but the last one set is that of every thread to come: it is set back from
    a thread of no other use.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    restore = threading.Thread(target=torch.set_num_threads, args=(before,))
    restore.start()
    restore.join()
