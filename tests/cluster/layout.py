"""One cluster's name, folder and addresses. Each checkout on a machine has its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import paths
from tests.cluster.errors import ClusterError

_DIGITS = 6
_NETWORKS = 256


def checkout_name() -> str:
    """The name that every cluster of this checkout begins with."""
    digest = hashlib.sha256(str(paths.CHECKOUT).encode()).hexdigest()[:_DIGITS]
    return f"tc-{digest}"


@dataclass(frozen=True)
class Layout:
    """Where one cluster keeps its files."""

    name: str

    @property
    def folder(self) -> Path:
        """Everything of this cluster."""
        return paths.clusters_root() / self.name

    @property
    def logs(self) -> Path:
        """One log for each component."""
        return self.folder / "logs"

    @property
    def certificates(self) -> Path:
        """Certificates and keys."""
        return self.folder / "certificates"

    @property
    def configuration(self) -> Path:
        """The components' own files."""
        return self.folder / "configuration"

    @property
    def kubeconfig(self) -> Path:
        """The person's way in."""
        return self.folder / "kubeconfig"

    @property
    def record(self) -> Path:
        """What runs; it is there while the cluster is meant to be up."""
        return self.folder / "running.json"

    @property
    def plan(self) -> Path:
        """What the supervisor runs."""
        return self.folder / "plan.json"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor answers."""
        return self.folder / "supervisor.sock"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd answers."""
        return self.folder / "containerd.sock"

    @property
    def volume(self) -> Path:
        """The shared volume: kept when the cluster goes down."""
        return self.folder / "volume"

    @property
    def kubelet(self) -> Path:
        """The node's /var/lib/kubelet."""
        return self.folder / "kubelet"

    @property
    def containerd(self) -> Path:
        """Images and containers: kept when the cluster goes down."""
        return self.folder / "containerd"

    @property
    def pod_logs(self) -> Path:
        """The node's /var/log/pods and /var/log/containers."""
        return self.folder / "pod-logs"

    @property
    def hosts_file(self) -> Path:
        """Further names that pods resolve."""
        return self.folder / "hosts"

    def claim(self) -> None:
        """Make the folder this checkout's; refuse one that is another's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = self.folder / "checkout"
        if owner.exists() and owner.read_text() != str(paths.CHECKOUT):
            raise ClusterError(f"{self.folder} belongs to the checkout {owner.read_text()}: remove it if that is gone")
        owner.write_text(str(paths.CHECKOUT))
        if len(str(self.containerd_socket)) > 100:
            raise ClusterError(
                f"{self.folder} is too long a path for a socket: set TRANSCRIPTION_CACHE to a shorter one"
            )


@dataclass(frozen=True)
class Network:
    """The two ends that join a node to this machine, and the addresses inside it."""

    number: int
    host_interface: str
    node_interface: str = "eth0"
    pod_range: str = "10.244.0.0/16"
    pod_subnet: str = "10.244.0.0/24"
    dns_address: str = "169.254.20.10"

    @property
    def range(self) -> str:
        """The four addresses of the joint."""
        return f"10.213.{self.number}.0/30"

    @property
    def host_address(self) -> str:
        """This machine, as pods see it."""
        return f"10.213.{self.number}.1"

    @property
    def node_address(self) -> str:
        """The node, as this machine sees it."""
        return f"10.213.{self.number}.2"


def interface_name(cluster: str) -> str:
    """This machine's end of a node's joint: at most 15 characters."""
    return f"tc{hashlib.sha256(cluster.encode()).hexdigest()[:8]}h"


def choose_network(name: str) -> Network:
    """A subnet that nothing on this machine has: first choice by the cluster's name."""
    interface = interface_name(name)
    shown = subprocess.run(["ip", "-json", "route", "show"], capture_output=True, text=True, check=True)
    taken = {route.get("dst", "") for route in json.loads(shown.stdout)}
    first = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16)
    for step in range(_NETWORKS):
        network = Network((first + step) % _NETWORKS, interface)
        if network.range not in taken:
            return network
    raise ClusterError("no free subnet under 10.213.0.0/16 on this machine")
