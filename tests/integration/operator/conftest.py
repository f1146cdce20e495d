"""One operator for all tests of this folder, under the rights that the chart gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient

from tests.cluster import tools
from tests.integration.operator.world import NAMESPACES, SYSTEM, Operator, StandIn, World, chart_objects, until
from transcription_operator import api as k8s
from transcription_operator.api import Api, Object, load_configuration

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "transcription-operator"
_INSTALLED = {
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "ValidatingAdmissionPolicy": ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies"),
    "ValidatingAdmissionPolicyBinding": ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings"),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
}


def _install(api: Api, document: Object) -> None:
    prefix, plural = _INSTALLED[document["kind"]]
    namespace = document["metadata"].get("namespace")
    kind = k8s.Kind(prefix, plural, namespaced=namespace is not None)
    api._request(
        "PATCH",
        kind.path(namespace, document["metadata"]["name"]),
        query={"fieldManager": "test-operator", "force": "true"},
        body=document,
        content_type="application/apply-patch+yaml",
    )


def _operators_kubeconfig(api: Api, admin: Path, target: Path) -> Path:
    account = k8s.SERVICE_ACCOUNTS.path(SYSTEM, "transcription-operator", "token")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    token = api._request("POST", account, body=body)["status"]["token"]
    document = yaml.safe_load(admin.read_text())
    document["users"][0]["user"] = {"token": token}
    target.write_text(yaml.safe_dump(document))
    target.chmod(0o600)
    return target


@pytest.fixture(scope="session")
def admin(control_plane) -> Api:
    """The API server, as an administrator."""
    return Api(load_configuration(str(control_plane.kubeconfig)))


@pytest.fixture(scope="session")
def operator(control_plane, admin, tmp_path_factory) -> Iterator[Operator]:
    """A running operator; its log is shown with a failing test."""
    folder = tmp_path_factory.mktemp("operator")
    if admin.get(NAMESPACES, SYSTEM) is None:
        admin.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    documents = chart_objects(tools.binary("helm"), CHART)
    config = folder / "config.yaml"
    for document in documents:
        if document["kind"] in _INSTALLED:
            _install(admin, document)
        elif document["kind"] == "ConfigMap" and "config.yaml" in document.get("data", {}):
            config.write_text(document["data"]["config.yaml"])
    assert config.exists(), "the chart has no settings for the operator"
    until(lambda: admin.serves(k8s.TRANSCRIPTION_JOBS), "the CRD is served")
    kubeconfig = _operators_kubeconfig(admin, control_plane.kubeconfig, folder / "kubeconfig")
    process = Operator(config, kubeconfig, folder / "operator.log")
    process.start()
    try:
        yield process
    finally:
        process.stop()
    # Nothing of what all these tests led to was refused for want of rights, or unexpected.
    log = process.log.read_text()
    assert "Forbidden" not in log, log[-3000:]
    assert "Traceback" not in log, log[-3000:]


@pytest.fixture(scope="session")
def world(control_plane, admin, operator) -> World:
    return World(admin, ApiClient(load_configuration(str(control_plane.kubeconfig))), operator)


@pytest.fixture
def stand_in(world) -> StandIn:
    return StandIn(world)


@pytest.fixture
def namespace(world) -> Iterator[str]:
    """A namespace of the test's own, emptied by the controllers afterwards."""
    name = world.namespace()
    yield name
    world.api.delete(NAMESPACES, name)


@pytest.fixture
def repo() -> str:
    """A model that no other test downloads."""
    import secrets

    return f"someone/whisper-{secrets.token_hex(4)}"
