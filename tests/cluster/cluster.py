"""A running cluster, as its users see it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.processes import Process


@dataclass(frozen=True)
class Cluster:
    """What can be said of a cluster; of an existing one (KUBECONFIG's), what its owner says of it."""

    name: str
    kind: str
    """`node`, `control-plane` or `existing`."""
    kubeconfig: Path
    folder: Path | None = None
    host_address: str = ""
    """By which pods reach servers that tests start on this machine."""
    node_address: str = ""
    node_name: str = ""
    volume: Path | None = None
    """An existing cluster's folder for hostPath volumes, which this machine sees under the same path."""
    supervisor: Process | None = None
    init: Process | None = None
    """The first process in the node's own namespaces."""

    @property
    def logs(self) -> Path:
        """The components' logs, one file each."""
        return self._own() / "logs"

    @property
    def volume_root(self) -> Path:
        """The folder that serves as the shared volume, under the same path here and on the node."""
        return self.volume or self._own() / "volume"

    def _own(self) -> Path:
        if self.folder is None:
            raise ClusterError("an existing cluster was asked for, and this needs one that the tests started")
        return self.folder

    def down(self) -> None:
        """Stop it; nothing of it is left but its files."""
        from tests.cluster import lifecycle

        lifecycle.down(self)

    def run_in_node(self, command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the node's own namespaces, as root."""
        if self.init is None:
            raise ClusterError(f"{self.name} has no node that the tests started")
        entered = ["nsenter", "--target", str(self.init.pid), "--mount", "--net", "--pid", *command]
        done = subprocess.run(entered, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise ClusterError(f"on the node, {' '.join(command)} failed: {done.stderr.strip()}")
        return done

    def components(self) -> list[dict[str, object]]:
        """Every component: name, whether it runs, how often it was started again."""
        answer = self._tell("status")
        assert isinstance(answer, list)
        return answer

    def halt(self, component: str) -> None:
        """End a component and keep it ended."""
        self._tell(f"halt {component}")

    def resume(self, component: str) -> None:
        """Let a halted component run again."""
        self._tell(f"resume {component}")

    def kill(self, component: str) -> None:
        """End a component at once; it comes back by itself."""
        self._tell(f"kill {component}")

    def log_tail(self, component: str, lines: int = 30) -> str:
        """The end of one component's log."""
        path = self.logs / f"{component}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def _tell(self, words: str) -> object:
        path = self._own() / "supervisor.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            try:
                connection.connect(str(path))
                connection.sendall(words.encode())
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
            except OSError as problem:
                raise ClusterError(f"the supervisor of {self.name} does not answer: {problem}") from problem
        if not parts:
            raise ClusterError(f"the supervisor of {self.name} did not understand: {words}")
        answer: object = json.loads(b"".join(parts))
        return answer

    def save(self, path: Path) -> None:
        """Keep what is known, for later commands."""
        document = {
            "name": self.name,
            "kind": self.kind,
            "kubeconfig": str(self.kubeconfig),
            "folder": str(self.folder),
            "host_address": self.host_address,
            "node_address": self.node_address,
            "node_name": self.node_name,
            "supervisor": _numbers(self.supervisor),
            "init": _numbers(self.init),
        }
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(document, indent=1))
        temporary.rename(path)

    @staticmethod
    def load(path: Path) -> Cluster | None:
        """What was kept, if anything was."""
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        for each in ("supervisor", "init"):
            raw[each] = Process(*raw[each]) if raw[each] else None
        return Cluster(**{**raw, "kubeconfig": Path(raw["kubeconfig"]), "folder": Path(raw["folder"])})


def _numbers(process: Process | None) -> list[int] | None:
    return [process.pid, process.started] if process else None
