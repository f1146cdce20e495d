"""A process for one job: `python -m bench.worker JOB`, where JOB and the answer are JSON.

The answer is the last line of standard output; whatever a program prints comes before it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.programs import Job, MissingError, load

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Answer:
    """What one run took. missing: why there was none; failed: what went wrong in it."""

    seconds: float = 0.0
    load_seconds: float = 0.0
    texts: tuple[str, ...] = ()
    megabytes: float = 0.0
    """The most that the process held in memory, as the kernel counts it."""
    gpu_megabytes: float = 0.0
    """The most that torch held on the GPU; nothing is known of other programs'."""
    missing: str | None = None
    failed: str | None = None


def ask(job: Job, environ: Mapping[str, str] | None = None) -> Answer:
    """Run a job in a process of its own."""
    try:
        found = json.loads(call("bench.worker", [json.dumps(dataclasses.asdict(job))], job.threads, environ)[-1])
    except WorkerError as error:
        return Answer(failed=str(error))
    return Answer(**{**found, "texts": tuple(found.get("texts", ()))})


class WorkerError(Exception):
    """A process of ours failed; the message is the last that it said."""


def call(module: str, arguments: Sequence[str], threads: int, environ: Mapping[str, str] | None = None) -> list[str]:
    """Run a module with as many threads for every library; returns its lines. Raises WorkerError."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join(str(ROOT / part) for part in ("operator", "runner", "."))
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={
            **os.environ,
            **dict.fromkeys(counts, str(threads)),
            "PYTHONPATH": os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH")))),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **(environ or {}),
        },
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise WorkerError(_complaint(process.stderr) or f"ended with status {process.returncode}")
    return process.stdout.strip().splitlines() or ["{}"]


def _complaint(said: str) -> str:
    """The exception that a traceback ends with; its message may go on for lines."""
    lines = said.strip().splitlines()
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Missing|Usage|OutOfMemory)\b", line)]
    return (named or lines or [""])[-1]


def do(job: Job) -> Answer:
    """Load, run once on something short, and time the run on the job's files."""
    limit_threads(job.threads)
    began = time.monotonic()
    try:
        run = load(job)
    except MissingError as error:
        return Answer(missing=str(error))
    loaded = time.monotonic()
    run([Path(job.warm)])
    started = time.monotonic()
    texts = run([Path(file) for file in job.files])
    ended = time.monotonic()
    return Answer(
        seconds=ended - started,
        load_seconds=loaded - began,
        texts=tuple(text.strip() for text in texts),
        megabytes=peak_megabytes(),
        gpu_megabytes=gpu_megabytes(),
    )


def limit_threads(count: int) -> None:
    """Torch counts processors for itself, whatever the environment says; without it there is nothing to limit."""
    try:
        importlib.import_module("torch").set_num_threads(count)
    except ImportError:
        return


def peak_megabytes() -> float:
    """This process's peak resident set; unlike ru_maxrss it has nothing of the process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def gpu_megabytes() -> float:
    torch: Any = sys.modules.get("torch")
    return torch.cuda.max_memory_reserved() / 1e6 if torch is not None and torch.cuda.is_available() else 0.0


def main() -> None:
    found = json.loads(sys.argv[1])
    answer = do(Job(**{**found, "files": tuple(found["files"])}))
    print(json.dumps(dataclasses.asdict(answer)))


if __name__ == "__main__":
    main()
