"""The images' base: a Debian of this machine's own mirror, with Python, and nothing that a container does not use."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster import pins
from tests.cluster.buildah import Buildah
from tests.cluster.errors import ClusterError

_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_REMOVED = (
    "etc/apt/sources.list",
    "usr/lib/x86_64-linux-gnu/gconv/IBM*",
    "usr/lib/x86_64-linux-gnu/gconv/EBCDIC*",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/gcc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zsh",
    "var/cache/apt",
    "var/cache/debconf/*-old",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/*",
)
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


def name() -> str:
    """The base image of this very recipe."""
    recipe = repr((pins.DEBIAN_SUITE, _PACKAGES, _REMOVED, _ENVIRONMENT)).encode()
    return f"localhost/transcription-base:{hashlib.sha256(recipe).hexdigest()[:12]}"


def ensure(buildah: Buildah) -> str:
    """The base image, made now if it is not there."""
    image = name()
    if buildah.exists(image):
        return image
    print(f"images: Debian {pins.DEBIAN_SUITE} with Python, by debootstrap", flush=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=buildah.temporary, ignore_cleanup_errors=True) as folder:
        tree = Path(folder) / "tree"
        _bootstrap(tree)
        _slim(tree)
        _commit(buildah, tree, image)
        shutil.rmtree(tree)
    return image


def _bootstrap(tree: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    if _KEYRING.exists():
        command.append(f"--keyring={_KEYRING}")
    command += [pins.DEBIAN_SUITE, str(tree), *_mirror()]
    # In a mount namespace of its own: what it mounts goes with it, even if it is killed.
    done = subprocess.run(["unshare", "--mount", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        log = tree / "debootstrap" / "debootstrap.log"
        detail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise ClusterError(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}{detail}")


def _mirror() -> list[str]:
    """Debian's mirror as this machine's apt has it; without one, debootstrap's own default."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in sources:
        if source.suffix not in {".list", ".sources"} or not source.is_file():
            continue
        for line in source.read_text().splitlines():
            found = re.match(r"(?:deb\s+(?:\[.*?\]\s+)?|URIs:\s*)(https?://\S+/debian)/?(?:\s|$)", line.strip())
            if found:
                return [found[1]]
    return []


def _slim(tree: Path) -> None:
    for pattern in _REMOVED:
        for each in tree.glob(pattern):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
    (tree / "var/cache/apt/archives/partial").mkdir(parents=True)


def _commit(buildah: Buildah, tree: Path, image: str) -> None:
    container = buildah.run("from", "scratch").strip()
    try:
        buildah.run("copy", "--quiet", container, str(tree), "/")
        settings = [part for each in _ENVIRONMENT for part in ("--env", each)]
        buildah.run("config", *settings, "--cmd", "/bin/bash", container)
        buildah.run("commit", "--quiet", container, image)
    finally:
        buildah.run("rm", container)
