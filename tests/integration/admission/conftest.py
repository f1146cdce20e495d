"""An API server with the chart on it, and runners: pods of Jobs, with the tokens that a kubelet would give them."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import tools
from tests.integration.crds.client import JOBS, Api, Object, Refused, job
from tests.integration.crds.server import ROOT, established, namespaced

CHART = ROOT / "helm" / "transcription-operator"
OPERATORS = "transcription-operator"
RUNNERS = "transcription-runner"
RUNNER_ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/transcription-runner"


@pytest.fixture(scope="session")
def helm(control_plane) -> Callable[..., str]:
    """helm's standard output."""

    def run(*arguments: str) -> str:
        command = [str(tools.binary("helm")), f"--kubeconfig={control_plane.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def api(control_plane) -> Api:
    """The API server, as an administrator."""
    return Api.of(Path(control_plane.kubeconfig))


@pytest.fixture(scope="module")
def chart(api, helm) -> str:
    """The chart's release; a CRD that other tests have applied becomes the release's."""
    notes = helm(
        "upgrade", "--install", "policy", str(CHART), "--namespace", "policy-system", "--create-namespace",
        "--take-ownership", "--values", str(CHART / "examples" / "nfs.yaml"),
    )  # fmt: skip
    established(api)
    return notes


@dataclasses.dataclass(frozen=True)
class Runner:
    """The pod of a TranscriptionJob's Job, and what it writes to which resource."""

    api: Api
    pod: str

    def report(self, path: str, status: dict[str, Any]) -> Object:
        """Server-side apply with force, as the runner does it."""
        name = path.rsplit("/", 1)[1]
        body = {k: v for k, v in job(name, {}).items() if k != "spec"} | {"status": status}
        return self.api.apply(f"{path}/status", body, RUNNERS)


@dataclasses.dataclass(frozen=True)
class Team:
    """A namespace with what the operator makes there."""

    api: Api
    namespace: str

    def prepare(self) -> None:
        """The runners' account, and the binding of their role."""
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        for name in (RUNNERS, "somebody"):
            self.api.create(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        for name in (RUNNERS, "somebody"):
            self.api.create(
                f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/rolebindings",
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "RoleBinding",
                    "metadata": {"name": name},
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RUNNERS
                    },
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
                },
            )  # fmt: skip

    def job(self, name: str, status: dict[str, Any] | None = None) -> str:
        """A TranscriptionJob with the operator's part of its status; returns its path."""
        jobs = JOBS.format(namespace=self.namespace)
        manifest = job(name, {"audio": {"url": "s3://b/a.mp3"}, "model": "base"})
        self.api.create(jobs, manifest)
        if status:
            body = {k: v for k, v in manifest.items() if k != "spec"} | {"status": status}
            self.api.apply(f"{jobs}/{name}/status", body, OPERATORS)
        return f"{jobs}/{name}"

    def token(self, pod: str | None, account: str = RUNNERS) -> str:
        """A token of the account's, bound to a pod where one is named."""
        spec: dict[str, Any] = {"audiences": [], "expirationSeconds": 600}
        if pod:
            made = self.api.create(f"/api/v1/namespaces/{self.namespace}/pods", self._pod(pod, account))
            uid = made["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        return str(self.api.request("POST", path, request)["status"]["token"])

    def runner(self, pod: str | None, account: str = RUNNERS) -> Runner:
        """Who has that pod's token."""
        return Runner(self.api.as_bearer(self.token(pod, account)), pod or "")

    def _pod(self, name: str, account: str) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                # Nothing is to run: there may be a node.
                "schedulerName": "nobody",
                "securityContext": {
                    "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}
                },
                "containers": [
                    {
                        "name": "runner",
                        "image": "runner",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        }  # fmt: skip


@pytest.fixture(scope="module")
def team(api, chart) -> Iterator[Team]:
    """A namespace with runners, where the policy is in force."""
    with namespaced(api, "team-a") as name:
        team = Team(api, name)
        team.prepare()
        _in_force(team)
        yield team


@pytest.fixture(scope="module")
def other_team(api, chart) -> Iterator[Team]:
    """Another such namespace."""
    with namespaced(api, "team-b") as name:
        team = Team(api, name)
        team.prepare()
        yield team


def _in_force(team: Team, patience: float = 60) -> None:
    """The API server learns of a new policy a moment after it is made: wait until a bad report is refused."""
    path = team.job("probe", {"jobName": "tj-probe-00000000"})
    nobody = team.runner(None)
    until = time.monotonic() + patience
    while True:
        try:
            nobody.report(path, {"progress": {"percent": 1}})
        except Refused as refused:
            if "token names no pod" in str(refused):
                return
        assert time.monotonic() < until, "the policy is not in force"
        time.sleep(0.2)
