"""Builds the pinned Go programs once and keeps them in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import golang, pins
from tests.cluster.errors import ClusterError
from tests.cluster.locks import exclusive
from tests.cluster.paths import cache_root

COLD_BUILD_MIB = 7000


@dataclass(frozen=True)
class Tools:
    """The folder of built programs."""

    bin: Path

    def path(self, name: str) -> Path:
        """One program."""
        return self.bin / name


def binary(name: str) -> Path:
    """The path of one program, built first where it is not there yet."""
    return ensure().path(name)


def tools_folder() -> Path:
    """Where the programs of these very pins are, or will be."""
    return cache_root() / f"tools-{pins.tools_digest()}"


def built() -> Tools | None:
    """The programs, if they have been built."""
    folder = tools_folder() / "bin"
    return Tools(folder) if folder.is_dir() else None


def ensure() -> Tools:
    """The programs: built now if no one has built them yet."""
    if tools := built():
        return tools
    target = tools_folder()
    root = target.parent
    with exclusive(root / "tools.lock", "it builds the cluster's programs"):
        if tools := built():
            return tools
        _remove_abandoned_builds(root)
        _check_space(root)
        started = time.monotonic()
        building = Path(tempfile.mkdtemp(prefix="tools-building-", dir=root))
        try:
            _build_all(building)
            building.rename(target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        print(f"built in {time.monotonic() - started:.0f} s: {target / 'bin'}", flush=True)
    return Tools(target / "bin")


def _remove_abandoned_builds(root: Path) -> None:
    for leftover in root.glob("tools-building-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free >> 20
    if free < COLD_BUILD_MIB:
        raise ClusterError(
            f"building the cluster's programs needs {COLD_BUILD_MIB} MiB of disk with Go's caches, "
            f"and {root} has {free} MiB free"
        )


def _build_all(building: Path) -> None:
    go = golang.ensure()
    raw = building / "raw"
    final = building / "bin"
    final.mkdir()
    building.chmod(0o755)
    modules = pins.go_modules()
    for number, module in enumerate(modules, start=1):
        names = ", ".join(sorted(module.programs.values()))
        print(f"building {number}/{len(modules)}: {names} (the first time takes minutes)", flush=True)
        _go_install(go, module, raw)
        for built_name, wanted_name in module.programs.items():
            (raw / built_name).rename(final / wanted_name)
    shutil.rmtree(raw)


def _go_install(go: Path, module: pins.GoModule, destination: Path) -> None:
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOBIN": str(destination),
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOWORK": "off",
    }
    command = [str(go), "install", "-trimpath", "-ldflags", module.ldflags, *module.packages]
    done = subprocess.run(command, cwd=module.folder, env=environment, check=False)
    if done.returncode:
        raise ClusterError(f"go install failed in {module.folder}: its own words are above")
