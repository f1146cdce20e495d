"""Versions of everything that the test cluster is made of.

Go programs are pinned by the `go.mod` and `go.sum` files under `tools/`; this page names the rest.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.paths import HERE

KUBERNETES = "1.35.4"
GO_TOOLCHAIN = "go1.26.8"
DEBIAN_SUITE = "trixie"


@dataclass(frozen=True)
class GoModule:
    """One module under `tools/` and the programs that come out of it (built name: wanted name)."""

    name: str
    folder: Path
    programs: dict[str, str]
    packages: tuple[str, ...] = ("tool",)
    ldflags: str = "-s -w"

    @property
    def digest(self) -> str:
        """A short hash of all that decides what the programs are."""
        digest = hashlib.sha256(platform.machine().encode())
        digest.update(repr((self.programs, self.packages, self.ldflags)).encode())
        for source in sorted(self.folder.iterdir()):
            if source.is_file():
                digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()[:12]


def _kubernetes_ldflags() -> str:
    """The version that the programs give as theirs: without it they call themselves v0.0.0."""
    major, minor, _ = KUBERNETES.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = [f"-X {package}.{key}={value}" for package in packages for key, value in values.items()]
    return " ".join(["-s -w", *stamps])


def go_modules() -> tuple[GoModule, ...]:
    """Every Go module that is built, smallest first so that its mistakes show early."""
    tools = HERE / "tools"
    return (
        GoModule("pause", tools / "pause", {"pause": "pause"}, packages=(".",)),
        GoModule("coredns", tools / "coredns", {"coredns": "coredns"}, packages=(".",)),
        GoModule("efs", tools / "efs", {"efs": "efs-csi"}, packages=(".",)),
        GoModule("versitygw", tools / "versitygw", {"versitygw": "versitygw"}),
        GoModule(
            "kubernetes",
            tools,
            {
                "server": "etcd",
                "helm": "helm",
                "kube-apiserver": "kube-apiserver",
                "kube-controller-manager": "kube-controller-manager",
                "kube-proxy": "kube-proxy",
                "kube-scheduler": "kube-scheduler",
                "kubectl": "kubectl",
                "kubelet": "kubelet",
            },
            ldflags=_kubernetes_ldflags(),
        ),
    )


def tools_digest() -> str:
    """A short hash of all that decides what the built programs are."""
    return hashlib.sha256(" ".join(module.digest for module in go_modules()).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package, a program that shows that it is there, and what it is for."""

    name: str
    program: str
    purpose: str


DEBIAN_PACKAGES = (
    DebianPackage("golang-go", "go", "builds Kubernetes; where it is too old, it fetches a newer one"),
    DebianPackage("containerd", "containerd", "runs the node's containers"),
    DebianPackage("runc", "runc", "runs the node's containers"),
    DebianPackage("containernetworking-plugins", "/usr/lib/cni/ptp", "pods' network"),
    DebianPackage("iptables", "iptables", "service addresses (kube-proxy)"),
    DebianPackage("conntrack", "conntrack", "service addresses (kube-proxy)"),
    DebianPackage("iproute2", "ip", "joins the node to this machine"),
    DebianPackage("util-linux", "unshare", "the node's own process, mount and network namespaces"),
    DebianPackage("socat", "socat", "kubectl port-forward"),
    DebianPackage("buildah", "buildah", "builds the container images"),
    DebianPackage("debootstrap", "debootstrap", "the images' base"),
    DebianPackage("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "the images' base"),
    DebianPackage("bindfs", "bindfs", "a volume that is slow"),
    DebianPackage("prometheus", "prometheus", "reads the operator's metrics as a cluster's would"),
    DebianPackage("docker-registry", "docker-registry", "hands images to the node, layer by layer"),
)
