"""etcd, the API server, the controller manager: the commands that run them, and the files that they read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster import certificates
from tests.cluster.certificates import Authority, KeyPair
from tests.cluster.layout import Layout
from tests.cluster.supervisor import Component
from tests.cluster.tools import Tools

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
UNRESTRICTED_NAMESPACES = ("kube-system",)


@dataclass(frozen=True)
class Endpoints:
    """Where the control plane listens."""

    address: str
    bind_address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.api_port}"


@dataclass(frozen=True)
class Credentials:
    """What the control plane identifies itself and others with."""

    authority: Authority
    api_server: KeyPair
    kubelet_client: KeyPair
    service_accounts: Path
    admin: KeyPair


class ControlPlane:
    """Writes configuration and certificates, and knows the commands."""

    def __init__(self, layout: Layout, tools: Tools, endpoints: Endpoints) -> None:
        self.layout = layout
        self.endpoints = endpoints
        self._tools = tools
        layout.configuration.mkdir(parents=True, exist_ok=True)
        layout.logs.mkdir(parents=True, exist_ok=True)
        self.credentials = self._issue()
        self.credentials.authority.kubeconfig(layout.kubeconfig, endpoints.server, self.credentials.admin, layout.name)

    def _issue(self) -> Credentials:
        authority = Authority(self.layout.certificates, f"{self.layout.name} certificate authority")
        hosts = (
            self.endpoints.address,
            "127.0.0.1",
            SERVICE_ADDRESS,
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
        return Credentials(
            authority=authority,
            api_server=authority.issue("api-server", "kube-apiserver", hosts=tuple(dict.fromkeys(hosts))),
            kubelet_client=authority.issue("api-server-to-kubelet", "kube-apiserver-kubelet", ("system:masters",)),
            service_accounts=certificates.service_account_key(self.layout.certificates),
            admin=authority.issue("admin", "test-admin", ("system:masters",)),
        )

    def kubeconfig_for(self, name: str, user: str, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig for one component under its own user name."""
        identity = self.credentials.authority.issue(name, user, groups)
        path = self.layout.configuration / f"{name}.kubeconfig"
        return self.credentials.authority.kubeconfig(path, self.endpoints.server, identity, self.layout.name)

    def components(self) -> list[Component]:
        """What a supervisor is to run."""
        return [self._etcd(), self._api_server(), self._controller_manager()]

    def _etcd(self) -> Component:
        client = f"http://127.0.0.1:{self.endpoints.etcd_port}"
        peer = f"http://127.0.0.1:{self.endpoints.etcd_peer_port}"
        return Component(
            "etcd",
            [
                str(self._tools.path("etcd")),
                "--name=node",
                f"--data-dir={self.layout.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=node={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )

    def _api_server(self) -> Component:
        credentials = self.credentials
        return Component(
            "kube-apiserver",
            [
                str(self._tools.path("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self.endpoints.etcd_port}",
                f"--advertise-address={self.endpoints.address}",
                f"--bind-address={self.endpoints.bind_address}",
                f"--secure-port={self.endpoints.api_port}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--endpoint-reconciler-type=" + ("none" if self._alone() else "master-count"),
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                f"--admission-control-config-file={self._admission()}",
                f"--client-ca-file={credentials.authority.certificate}",
                f"--tls-cert-file={credentials.api_server.certificate}",
                f"--tls-private-key-file={credentials.api_server.key}",
                f"--kubelet-client-certificate={credentials.kubelet_client.certificate}",
                f"--kubelet-client-key={credentials.kubelet_client.key}",
                f"--kubelet-certificate-authority={credentials.authority.certificate}",
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={credentials.service_accounts}",
                f"--service-account-signing-key-file={credentials.service_accounts}",
                "--allow-privileged=true",
                "--profiling=false",
            ],
        )

    def _alone(self) -> bool:
        """Without a node, on a loopback address that the server would not accept as its own endpoint."""
        return self.endpoints.address.startswith("127.")

    def _controller_manager(self) -> Component:
        kubeconfig = self.kubeconfig_for("controller-manager", "system:kube-controller-manager")
        return Component(
            "kube-controller-manager",
            [
                str(self._tools.path("kube-controller-manager")),
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                f"--root-ca-file={self.credentials.authority.certificate}",
                f"--service-account-private-key-file={self.credentials.service_accounts}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
                "--profiling=false",
            ],
        )

    def _admission(self) -> Path:
        """Pods are held to the `restricted` standard everywhere but in kube-system."""
        path = self.layout.configuration / "admission.yaml"
        pod_security = {
            "apiVersion": "pod-security.admission.config.k8s.io/v1",
            "kind": "PodSecurityConfiguration",
            "defaults": {
                f"{mode}{suffix}": value
                for mode in ("enforce", "audit", "warn")
                for suffix, value in (("", "restricted"), ("-version", "latest"))
            },
            "exemptions": {"namespaces": list(UNRESTRICTED_NAMESPACES)},
        }
        document = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [{"name": "PodSecurity", "configuration": pod_security}],
        }
        path.write_text(yaml.safe_dump(document))
        return path
