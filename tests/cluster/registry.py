"""A registry that runs while images travel from buildah to a node, so that only changed layers do."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.processes import DYING_WITH_PARENT
from tests.cluster.waiting import until


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Its address. It listens on this machine's loopback alone."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _port(folder)
    configuration = folder / "config.yml"
    configuration.write_text(_configuration(folder, port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*DYING_WITH_PARENT, "docker-registry", "serve", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: process.poll() is not None or _listens(port), "the registry listens", 20)
            if process.poll() is not None:
                raise ClusterError(f"docker-registry ended:\n{(folder / 'log').read_text()[-2000:]}")
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def keep_only(folder: Path, tags: set[str]) -> None:
    """Forget every other tag, and the layers that no tag has."""
    repositories = folder / "docker" / "registry" / "v2" / "repositories"
    forgotten = [
        tag
        for repository in (repositories.iterdir() if repositories.exists() else ())
        for tag in (repository / "_manifests" / "tags").glob("*")
        if f"{repository.name}:{tag.name}" not in tags
    ]
    if not forgotten:
        return
    for tag in forgotten:
        shutil.rmtree(tag)
    command = ["docker-registry", "garbage-collect", "--delete-untagged", str(folder / "config.yml")]
    subprocess.run(command, capture_output=True, check=False)


def share_blobs(folder: Path, containerd: Path) -> None:
    """Let the registry and containerd keep one file for each layer that both have: neither ever changes one."""
    for ours in (folder / "docker" / "registry" / "v2" / "blobs" / "sha256").glob("*/*/data"):
        theirs = containerd / "io.containerd.content.v1.content" / "blobs" / "sha256" / ours.parent.name
        if not theirs.exists() or theirs.samefile(ours) or theirs.stat().st_dev != ours.stat().st_dev:
            continue
        linked = ours.with_name("data.linked")
        linked.unlink(missing_ok=True)
        os.link(theirs, linked)
        linked.rename(ours)


def _configuration(folder: Path, port: int) -> str:
    return f"""version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{folder}"}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def _port(folder: Path) -> int:
    """The same each time if it is free: buildah remembers by the address which layers are there already."""
    first = int(hashlib.sha256(str(folder).encode()).hexdigest()[:4], 16)
    for step in range(100):
        port = 20000 + (first + step) % 10000
        if not _listens(port):
            return port
    raise ClusterError("no free port for the registry")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
