"""Finds a Go new enough for the pins, or has an older one fetch it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster import pins
from tests.cluster.errors import ClusterError

_USUAL_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go", "/snap/bin/go")
_FETCHES_BY_ITSELF = (1, 21)


def find() -> Path | None:
    """Any Go at all."""
    for name in (shutil.which("go"), *_USUAL_PLACES):
        if name and Path(name).exists():
            return Path(name)
    return None


def version(go: Path) -> tuple[int, int]:
    """Major and minor of a Go."""
    said = _run(go, "version", local=True)
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ensure() -> Path:
    """A Go that can build the pins."""
    go = find()
    if go is None:
        raise ClusterError(
            "no Go was found. Any version will do, for it fetches the one that is needed: on Debian and Ubuntu "
            "`python -m tests.cluster system` installs one, elsewhere put `go` on PATH"
        )
    # From 1.21 on, Go fetches the toolchain that a go.mod asks for by itself.
    return go if version(go) >= _FETCHES_BY_ITSELF else _toolchain(go)


def environment() -> dict[str, str]:
    """Distributions may tell their Go not to fetch a newer one."""
    return {**os.environ, "GOTOOLCHAIN": "auto", "GOWORK": "off", "CGO_ENABLED": "0"}


def _toolchain(old: Path) -> Path:
    """The pinned toolchain, which is a module like any other: an older Go fetches it and checks its hash."""
    machine = _run(old, "env", "GOARCH").strip()
    module = f"golang.org/toolchain@v0.0.1-{pins.GO_TOOLCHAIN}.linux-{machine}"
    print(f"fetching {pins.GO_TOOLCHAIN} as a Go module: {old} is too old", flush=True)
    folder = Path(json.loads(_run(old, "mod", "download", "-json", module))["Dir"])
    for each in [*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")]:
        if each.is_file():
            each.chmod(0o555)
    return folder / "bin" / "go"


def _run(go: Path, *arguments: str, local: bool = False) -> str:
    settings = {**environment(), "GOTOOLCHAIN": "local"} if local else environment()
    done = subprocess.run([str(go), *arguments], capture_output=True, text=True, check=False, cwd="/", env=settings)
    if done.returncode:
        raise ClusterError(f"go {' '.join(arguments)} failed: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout
