"""The control groups of one node: a folder of its own in every hierarchy."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def unified() -> bool:
    """Whether the machine has cgroup v2 alone."""
    return (_ROOT / "cgroup.controllers").exists()


def create(name: str) -> None:
    """Make the folder in every hierarchy, ready for kubelet to make others in it."""
    if unified():
        _create_unified(name)
        return
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (folder / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> bool:
    """Remove the folder and all in it from every hierarchy; whether that worked."""
    folders = [hierarchy / name for hierarchy in ([_ROOT] if unified() else _hierarchies())]
    deadline = time.monotonic() + 5
    while any(folder.exists() for folder in folders):
        for folder in folders:
            _remove_tree(folder)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _hierarchies() -> list[Path]:
    return [each for each in _ROOT.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink()]


def _create_unified(name: str) -> None:
    """A group with processes of its own may not hand controllers on: in a container, move those aside first."""
    controllers = (_ROOT / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{each}" for each in controllers)
    try:
        (_ROOT / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        aside = _ROOT / "init"
        aside.mkdir(exist_ok=True)
        for pid in (_ROOT / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (aside / "cgroup.procs").write_text(pid)
        (_ROOT / "cgroup.subtree_control").write_text(wanted)
    folder = _ROOT / name
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(wanted)


def _remove_tree(folder: Path) -> None:
    """Deepest first; whatever still runs in there ends."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            for pid in (Path(path) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path(path).rmdir()
