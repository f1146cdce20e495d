"""What is asked of a node's containerd directly."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.errors import ClusterError


class Containerd:
    """The `ctr` program, pointed at one node."""

    def __init__(self, socket: Path) -> None:
        self._command = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]

    def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        """One command's output."""
        done = subprocess.run([*self._command, *arguments], input=stdin, capture_output=True, check=False)
        if done.returncode:
            raise ClusterError(f"ctr {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def answers(self) -> bool:
        """Whether it is up."""
        return not subprocess.run([*self._command, "version"], capture_output=True, check=False).returncode

    def images(self) -> set[str]:
        """The names that it has."""
        return set(self.run("images", "list", "--quiet").split())

    def remove_containers(self) -> None:
        """Those of an earlier run: their processes are gone, their folders are not."""
        if leftovers := self.run("containers", "list", "--quiet").split():
            self.run("containers", "remove", *leftovers)

    def import_program(self, image: str, program: Path) -> None:
        """Make an image of one static program and nothing else."""
        self.run("images", "import", "-", stdin=_archive(image, program))


def _archive(image: str, program: Path) -> bytes:
    """The image as `docker save` would write it."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": layer,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
