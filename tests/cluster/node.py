"""The node: containerd, kubelet, kube-proxy, scheduler and DNS, and the namespaces that they run in."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from tests.cluster import cgroups, paths
from tests.cluster.controlplane import ControlPlane
from tests.cluster.layout import Network
from tests.cluster.supervisor import Component
from tests.cluster.tools import Tools

PAUSE_IMAGE = "docker.io/library/transcription-pause:1"
DNS_READY_PORT = 8181
PROXY_HEALTH_PORT = 10256
DEFAULT_NAMES = ("hub.test", "s3.test", "www.test")

# Folders of the machine that kubelet and the network plugins insist on: the node has others in their place.
_OWN_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers")


class Node:
    """Writes the node's configuration, and knows the commands."""

    def __init__(self, plane: ControlPlane, network: Network, tools: Tools) -> None:
        self._plane = plane
        self._layout = plane.layout
        self._network = network
        self._tools = tools
        self.name = self._layout.name
        self._write_hosts()

    # ---- namespaces

    def setup(self) -> list[list[str]]:
        """What the first process in the namespaces does before it starts anything."""
        network = self._network
        bound = {
            "/var/lib/kubelet": self._layout.kubelet,
            "/var/lib/cni": self._layout.folder / "cni",
            "/var/log/pods": self._layout.pod_logs / "pods",
            "/var/log/containers": self._layout.pod_logs / "containers",
        }
        for folder in bound.values():
            folder.mkdir(parents=True, exist_ok=True)
        wait_for_link = (
            f"until ip -o addr show {network.node_interface} | grep -q {network.node_address}/; do sleep 0.02; done"
        )
        return [
            ["mount", "--make-rshared", "/"],
            ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
            ["mkdir", "-p", "/run/netns", "/run/lock"],
            *(["mount", "--bind", str(source), target] for target, source in bound.items()),
            ["ip", "link", "set", "lo", "up"],
            ["ip", "addr", "add", f"{network.dns_address}/32", "dev", "lo"],
            ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
            ["sh", "-c", wait_for_link],
            # Pods have addresses that this machine knows nothing of: they speak to it as the node.
            [
                *("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", network.pod_range),
                *("-o", network.node_interface, "-j", "MASQUERADE"),
            ],
        ]

    @staticmethod
    def make_mount_points() -> None:
        """The folders that the node's own are mounted on. They stay: removing one would end another node's mount."""
        for folder in _OWN_FOLDERS:
            Path(folder).mkdir(parents=True, exist_ok=True)

    # ---- components

    def components(self) -> list[Component]:
        """What a supervisor is to run besides the control plane."""
        return [self._containerd(), self._kubelet(), self._scheduler(), self._proxy(), self._dns(), self._gpus()]

    def _file(self, name: str, content: str) -> Path:
        path = self._layout.configuration / name
        path.write_text(content)
        return path

    def _containerd(self) -> Component:
        layout = self._layout
        mirrors = layout.configuration / "registries"
        mirrors.mkdir(exist_ok=True)
        networks = layout.configuration / "networks"
        networks.mkdir(exist_ok=True)
        (networks / "10-pods.conflist").write_text(_pod_network(self._network))
        snapshotter = _snapshotter(layout.folder)
        config = f"""version = 2
root = "{layout.containerd}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
oom_score = 0

[grpc]
  address = "{layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # The machine may lack CAP_SYS_RESOURCE, and runc may then not lower a score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{mirrors}"
"""
        return Component("containerd", ["containerd", "--config", str(self._file("containerd.toml", config))])

    def _kubelet(self) -> Component:
        layout = self._layout
        credentials = self._plane.credentials
        serving = credentials.authority.issue(
            "kubelet-serving", f"system:node:{self.name}", ("system:nodes",), (self.name, self._network.node_address)
        )
        kubeconfig = self._plane.kubeconfig_for("kubelet", f"system:node:{self.name}", ("system:nodes",))
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "0.0.0.0",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(credentials.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDNS": [self._network.dns_address],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._file("resolv.conf", f"nameserver {self._network.dns_address}\n")),
            "volumePluginDir": str(layout.kubelet / "volume-plugins"),
            "serializeImagePulls": False,
            # The disk is this machine's, and not the node's to tidy up.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }
        return Component(
            "kubelet",
            [
                str(self._tools.path("kubelet")),
                f"--config={self._file('kubelet.yaml', yaml.safe_dump(config))}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={self.name}",
                f"--node-ip={self._network.node_address}",
            ],
        )

    def _scheduler(self) -> Component:
        kubeconfig = self._plane.kubeconfig_for("scheduler", "system:kube-scheduler")
        return Component(
            "kube-scheduler",
            [
                str(self._tools.path("kube-scheduler")),
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
            ],
        )

    def _proxy(self) -> Component:
        kubeconfig = self._plane.kubeconfig_for("proxy", "system:kube-proxy")
        return Component(
            "kube-proxy",
            [
                str(self._tools.path("kube-proxy")),
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={self.name}",
                "--proxy-mode=iptables",
                f"--cluster-cidr={self._network.pod_range}",
                f"--healthz-bind-address={self._network.node_address}:{PROXY_HEALTH_PORT}",
                "--metrics-bind-address=127.0.0.1:10249",
                # These settings of the kernel cannot be written from inside a namespace.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
        )

    def _dns(self) -> Component:
        """Names of the cluster, the hosts file, and a clear no to everything else."""
        kubeconfig = self._plane.kubeconfig_for("dns", "system:coredns")
        nothing = self._file(
            "root.zone",
            "$ORIGIN .\n@ 60 IN SOA ns.invalid. nobody.invalid. 1 3600 600 86400 1\n@ 60 IN NS ns.invalid.\n",
        )
        corefile = f""".:53 {{
    bind {self._network.dns_address}
    errors
    ready {self._network.node_address}:{DNS_READY_PORT}
    hosts {self._layout.hosts_file} {{
        ttl 1
        reload 500ms
        fallthrough
    }}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
    file {nothing} .
}}
"""
        return Component(
            "coredns",
            [str(self._tools.path("coredns")), "-conf", str(self._file("Corefile", corefile))],
        )

    def _gpus(self) -> Component:
        return Component(
            "gpu-advertiser",
            [sys.executable, "-m", "tests.cluster.gpus", str(self._layout.kubeconfig), self.name],
            {"PYTHONPATH": str(paths.CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def _write_hosts(self) -> None:
        lines = [f"{self._network.host_address} {name}\n" for name in DEFAULT_NAMES]
        self._layout.hosts_file.write_text("".join(lines))

    def make_cgroups(self) -> None:
        """kubelet puts every pod under this group."""
        cgroups.create(self.name)


def dns_permissions() -> list[tuple[str, dict[str, object]]]:
    """The objects that let CoreDNS read what it answers from, with their paths."""
    name = "system:coredns"
    rbac = "rbac.authorization.k8s.io"
    base = f"/apis/{rbac}/v1"
    role: dict[str, object] = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {
                "apiGroups": ["", "discovery.k8s.io"],
                "resources": ["endpoints", "endpointslices", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            }
        ],
    }
    binding: dict[str, object] = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": name}],
    }
    return [(f"{base}/clusterroles/{name}", role), (f"{base}/clusterrolebindings/{name}", binding)]


def _pod_network(network: Network) -> str:
    """Routed, not bridged: no br_netfilter needed."""
    return f"""{{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {{"type": "ptp", "ipMasq": false,
      "ipam": {{"type": "host-local", "subnet": "{network.pod_subnet}", "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"""


def _snapshotter(folder: Path) -> str:
    """Overlay, unless the cache itself lies on one."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = max((m for m in mounts if folder.is_relative_to(m[1])), key=lambda m: len(m[1]))
    return "native" if holding[2] == "overlay" else "overlayfs"
