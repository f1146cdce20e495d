"""Finds a Go new enough for the pins."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster import pins
from tests.cluster.errors import ClusterError

_USUAL_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go", "/snap/bin/go")


def version(go: Path) -> tuple[int, int]:
    """Major and minor of the toolchain that `go` runs here."""
    said = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False, cwd="/").stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ensure() -> Path:
    """A Go that can build the pins."""
    names = [shutil.which("go"), *_USUAL_PLACES]
    for name in names:
        # From 1.21 on, Go fetches the toolchain that a go.mod asks for by itself.
        if name and Path(name).exists() and version(Path(name)) >= (1, 21):
            return Path(name)
    wanted = ".".join(map(str, pins.GO_MINIMUM))
    raise ClusterError(f"no Go was found: install Go {wanted} or newer and put `go` on PATH")
