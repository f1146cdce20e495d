"""Builds the pinned Go programs once and keeps them in the cache."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        for leftover in root.glob("*-building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        modules = [_build(root, module) for module in pins.go_modules()]
        with _appearing_whole(target) as building:
            (building / "bin").mkdir()
            for module in modules:
                for program in module.iterdir():
                    (building / "bin" / program.name).hardlink_to(program)
    print(f"the cluster's programs: {target / 'bin'}", flush=True)
    return Tools(target / "bin")


@contextmanager
def _appearing_whole(target: Path) -> Iterator[Path]:
    """A folder that gets its name only when it is complete."""
    building = Path(tempfile.mkdtemp(prefix=f"{target.name}-building-", dir=target.parent))
    try:
        building.chmod(0o755)
        yield building
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _build(root: Path, module: pins.GoModule) -> Path:
    """One module's programs, kept for as long as its own pins stay."""
    target = root / f"go-{module.name}-{module.digest}"
    if target.is_dir():
        return target
    names = ", ".join(sorted(module.programs.values()))
    print(f"building {names} (the first time takes minutes)", flush=True)
    _check_space(root)
    started = time.monotonic()
    with _appearing_whole(target) as building:
        _go_install(golang.ensure(), module, building)
        for built_name, wanted_name in module.programs.items():
            (building / built_name).rename(building / wanted_name)
    print(f"built in {time.monotonic() - started:.0f} s", flush=True)
    return target


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free >> 20
    if free < COLD_BUILD_MIB:
        raise ClusterError(
            f"building the cluster's programs needs {COLD_BUILD_MIB} MiB of disk with Go's caches, "
            f"and {root} has {free} MiB free"
        )


def _go_install(go: Path, module: pins.GoModule, destination: Path) -> None:
    environment = {
        **golang.environment(),
        "GOBIN": str(destination),
        "GOFLAGS": "-mod=readonly -buildvcs=false",
    }
    command = [str(go), "install", "-trimpath", "-ldflags", module.ldflags, *module.packages]
    done = subprocess.run(command, cwd=module.folder, env=environment, check=False)
    if done.returncode:
        raise ClusterError(f"go install failed in {module.folder}: its own words are above")
