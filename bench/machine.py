"""What the machine is and can do: `python -m bench.machine DEVICE THREADS` prints it as JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.limit import Machine
from bench.worker import call

_PROGRAMS = ("torch", "transformers", "openai-whisper", "faster-whisper", "ctranslate2", "numpy", "av")
_TRIES = 8


@dataclass(frozen=True)
class Found:
    """A device: its name, FLOPs a second by precision, bytes a second (0 for a processor), and who else is busy."""

    name: str
    flops: dict[str, float]
    bandwidth: float
    load: float
    versions: dict[str, str]
    date: str

    def machine(self, precision: str) -> Machine:
        return Machine(self.flops.get(precision, self.flops["float32"]), self.bandwidth)

    def lines(self) -> list[str]:
        """For a report."""
        peaks = ", ".join(f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in self.flops.items())
        reads = f"; {self.bandwidth / 1e9:,.0f} GB/s" if self.bandwidth else ""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return [
            f"{self.date}, {self.name}; load before the run {self.load:.1f}.",
            f"Largest matrix products measured here: {peaks}{reads}.",
            f"Python {platform.python_version()}, {versions}.",
        ]


def described() -> str:
    """The machine and the day, for a result: `2 processors (AMD EPYC), Linux 6.1, 2026-11-25`."""
    day = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{len(os.sched_getaffinity(0))} processors ({_processor()}), {platform.system()} {platform.release()}, {day}"
    )


def find(device: str, threads: int) -> Found:
    """Measure in a process of its own."""
    return Found(**json.loads(call("bench.machine", [device, str(threads)], threads)[-1]))


def measure(device: str, threads: int) -> Found:
    import torch

    load = os.getloadavg()[0]
    torch.set_num_threads(threads)
    versions = {}
    for name in _PROGRAMS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    if device == "cuda":
        name = torch.cuda.get_device_name()
        flops = {kind: _products(torch, device, kind, 8192) for kind in ("float16", "bfloat16")}
        flops["float32"] = _products(torch, device, "float32", 8192)
        bandwidth = _reads(torch)
    else:
        name = f"{_processor()}, {threads} threads of {os.cpu_count()} processors"
        flops = {kind: _products(torch, device, kind, 2048) for kind in ("float32", "bfloat16")}
        flops["int8"] = _whole_products(torch, 2048)
        bandwidth = 0.0
    return Found(name, flops, bandwidth, load, versions, datetime.datetime.now(datetime.UTC).date().isoformat())


def _fastest(work: Callable[[], Any], wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of the fastest of several tries, after one that does not count."""
    work()
    times = []
    for _ in range(_TRIES):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times)


def _products(torch: Any, device: str, kind: str, size: int) -> float:
    """FLOPs a second of a square product, by the fastest way there is."""
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, kind)) for _ in range(2))
    if device == "cuda":
        return float(2 * size**3 / _fastest(lambda: torch.mm(a, b), torch.cuda.synchronize))
    ways = [lambda: torch.mm(a, b), lambda: torch.nn.functional.linear(a, b)]
    if torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(b, size)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""))
    with torch.inference_mode():
        return float(2 * size**3 / min(map(_fastest, ways)))


def _whole_products(torch: Any, size: int) -> float:
    """The same of bytes, summed as 32-bit numbers."""
    a, b = (torch.randint(-127, 127, (size, size), dtype=torch.int8) for _ in range(2))
    return float(2 * size**3 / _fastest(lambda: torch._int_mm(a, b)))


def _reads(torch: Any) -> float:
    """Bytes a second that a GPU reads: a sum over 4 GB."""
    much = torch.ones(1 << 30, device="cuda", dtype=torch.float32)
    return float(much.numel() * 4 / _fastest(lambda: torch.sum(much), torch.cuda.synchronize))


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2])).__dict__))
