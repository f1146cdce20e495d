"""One cluster, one installed operator, real servers: what every end-to-end test stands on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import deployment
from tests.cluster import images as cluster_images
from tests.cluster import tools
from tests.deployment import Deployment
from tests.e2e.world import Namespace
from tests.kubectl import Kubectl
from tests.materials import hub, servers

pytest_plugins = ("tests.cluster.fixtures", "tests.materials.fixtures")


@pytest.fixture(scope="session")
def kubectl(cluster) -> Kubectl:
    return Kubectl(tools.binary("kubectl"), cluster.kubeconfig)


@pytest.fixture(scope="session")
def hub_here(cluster, whisper_base, whisper_tiny_en) -> Iterator[hub.Hub]:
    """The Hub-compatible server with OpenAI's weights, where pods reach it."""
    repos = {"openai/whisper-base": whisper_base, "openai/whisper-tiny.en": whisper_tiny_en}
    with hub.serve(repos, host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def s3_here(cluster, tmp_path_factory) -> Iterator[servers.S3]:
    """A real S3 server, where pods reach it."""
    with servers.s3_server(tmp_path_factory.mktemp("s3"), host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def https_here(cluster, tmp_path_factory) -> Iterator[servers.Https]:
    """Files over TLS with a certificate of the test's own authority, where pods reach it."""
    with servers.https_server(
        tmp_path_factory.mktemp("www"), host=cluster.host_address, names=[cluster.host_address]
    ) as server:
        yield server


@pytest.fixture(scope="session")
def chart_values(cluster, hub_here, https_here) -> dict:
    """What the end-to-end tests install the chart with."""
    built = cluster_images.build()
    cluster_images.load(cluster, built)
    return deployment.values(
        operator_image=built.operator,
        runner_image=built.runner,
        volume=cluster.volume_root,
        hub=hub_here.url,
        # A runner that cannot reach the API server gives up after this many seconds, and a test waits for it.
        extra={"runner": {"reportPatienceSeconds": 25, "caBundle": https_here.ca_pem}},
    )


@pytest.fixture(scope="session")
def operator(cluster, kubectl, chart_values) -> Deployment:
    """The operator, installed by its chart on an empty cache."""
    for folder in ("models", "transcripts"):
        shutil.rmtree(cluster.volume_root / folder, ignore_errors=True)
    deployed = Deployment(cluster, kubectl, tools.binary("helm"))
    kubectl.run("delete", "tj", "-A", "--all", "--ignore-not-found") if deployed_before(kubectl) else None
    kubectl.run("delete", "jobs", "-n", deployment.NAMESPACE, "--all", "--ignore-not-found")
    deployed.install(chart_values)
    return deployed


def deployed_before(kubectl: Kubectl) -> bool:
    return kubectl.get("crd", "transcriptionjobs.transcription.dev") is not None


@pytest.fixture
def namespaces(request, cluster, kubectl, operator) -> Iterator:
    """Makes namespaces named after the test, and takes them away."""
    made: list[Namespace] = []

    def make(suffix: str = "") -> Namespace:
        slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
        namespace = Namespace(kubectl, f"e2e-{slug}{suffix}", deployment.recordings_folder(cluster))
        namespace.remove()
        kubectl.delete("namespace", namespace.name)
        kubectl.delete("pv", f"recordings-{namespace.name}")
        namespace.create()
        made.append(namespace)
        return namespace

    yield make
    for namespace in made:
        namespace.remove()


@pytest.fixture
def namespace(namespaces) -> Namespace:
    return namespaces()


@pytest.fixture(scope="session")
def volume(cluster) -> Path:
    return cluster.volume_root
