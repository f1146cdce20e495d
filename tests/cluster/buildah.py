"""buildah with a storage of its own in the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError
from tests.cluster.processes import DYING_WITH_PARENT

# buildah copies itself into memory before each step, and now and then finds the copy still busy: a second try goes on
# from the step that failed.
_PASSING_TROUBLE = "sealing memfd copy: Device or resource busy"
_ATTEMPTS = 4


class Buildah:
    """The program, with its settings for this cache."""

    def __init__(self, root: Path) -> None:
        self.temporary = root / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        settings = root / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "{_driver(root)}"\ngraphroot = "{root / "storage"}"\nrunroot = "{root / "run"}"\n'
        )
        self._environment = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_STORAGE_CONF": str(settings),
            "TMPDIR": str(self.temporary),
        }

    def run(self, *arguments: str) -> str:
        """One command's output; what it says meanwhile comes back in the error, if there is one."""
        for _ in range(_ATTEMPTS):
            done = subprocess.run(
                [*DYING_WITH_PARENT, "buildah", *arguments],
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if not done.returncode or _PASSING_TROUBLE not in done.stderr:
                break
        if done.returncode:
            raise ClusterError(f"buildah {arguments[0]} failed:\n{done.stdout[-3000:]}{done.stderr[-6000:]}")
        return done.stdout

    def remove_leftovers(self) -> None:
        """What a build left that was killed. Only for who holds the lock on builds."""
        self.run("rm", "--all")
        for each in self.temporary.glob("base-*"):
            shutil.rmtree(each, ignore_errors=True)

    def exists(self, image: str) -> bool:
        """Whether the storage has it."""
        command = ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", image]
        return not subprocess.run(command, env=self._environment, capture_output=True, check=False).returncode

    def tags(self, repository: str) -> list[str]:
        """The names under one repository, newest first."""
        listed = json.loads(self.run("images", "--json") or "[]")
        found = [
            (each["createdat"], name)
            for each in listed
            for name in each.get("names") or []
            if name.rpartition(":")[0] == repository
        ]
        return [name for _, name in sorted(found, reverse=True)]

    def size(self, image: str) -> int:
        """Bytes, uncompressed."""
        listed = json.loads(self.run("images", "--json", image))
        return _bytes(listed[0]["size"])

    def inspect(self, image: str) -> dict[str, Any]:
        """What buildah knows of an image: `OCIv1` is its configuration."""
        found: dict[str, Any] = json.loads(self.run("inspect", "--type", "image", image))
        return found

    def layers(self, image: str) -> list[int]:
        """The bytes of each layer, uncompressed, the lowest first."""
        return [int(each["size"]) for each in json.loads(self.inspect(image)["Manifest"])["layers"]]


def _bytes(shown: str) -> int:
    number, unit = shown.split()
    return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])


def _driver(root: Path) -> str:
    """Overlay, unless the cache itself lies on one."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = max((m for m in mounts if root.is_relative_to(m[1])), key=lambda m: len(m[1]))
    return "vfs" if holding[2] == "overlay" else "overlay"
