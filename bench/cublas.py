"""CTranslate2's cuBLAS where there is only CUDA 13's.

CTranslate2's wheel opens `libcublas.so.12` by name and takes nine functions out of it (cublasCreate_v2,
cublasSgemm_v2, cublasGemmEx and the like), which CUDA 13's `libcublas.so.13` has with the same arguments; the CUDA
runtime is within the wheel, and a driver for 13 runs it. So a link of the old name in front of everything else serves
for float16, bfloat16 and float32; int8 is refused by cuBLAS 13 as CTranslate2 calls it
(https://github.com/OpenNMT/CTranslate2/issues/1933).
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path

_WANTED = "libcublas.so.12"
_AT_HAND = "libcublas.so.13"


def environment(scratch: Path, folders: Sequence[Path] | None = None) -> dict[str, str]:
    """LD_LIBRARY_PATH for a process that runs CTranslate2 on a GPU; the link is made in `scratch`.

    Empty where cuBLAS 12 is there (its package's folder is named then) or where there is none at all. folders: where
    to look; None for Python's packages and the CUDA toolkit. The real folder is named too: cuBLAS needs its cublasLt.
    """
    every = list(_folders() if folders is None else folders)
    for folder in every:
        if (folder / _WANTED).exists():
            return _first([folder])
    for folder in every:
        if (folder / _AT_HAND).exists():
            scratch.mkdir(parents=True, exist_ok=True)
            link = scratch / _WANTED
            link.unlink(missing_ok=True)
            link.symlink_to(folder / _AT_HAND)
            return _first([scratch, folder])
    return {}


def _folders() -> list[Path]:
    """Where cuBLAS may be: NVIDIA's packages for CUDA 12 and 13, and the toolkit."""
    packages = {Path(folder) for folder in (*site.getsitepackages(), site.getusersitepackages(), *sys.path) if folder}
    parts = ("nvidia/cublas/lib", "nvidia/cu13/lib")
    found = [folder / part for folder in sorted(packages) for part in parts]
    return [*found, *(Path(folder) for folder in ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu"))]


def _first(folders: Sequence[Path]) -> dict[str, str]:
    before = os.environ.get("LD_LIBRARY_PATH", "")
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [*map(str, folders), before]))}
