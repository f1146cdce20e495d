"""One cluster, one installed operator, real servers: what every end-to-end test stands on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.download import write_repository
from tests import deployment
from tests.cluster import images, tools
from tests.deployment import Deployment
from tests.e2e.world import Namespace
from tests.kubectl import Kubectl
from tests.materials import hub, recordings, servers
from tests.materials.hub_repository import Repository

RESUMED = tuple(f"resume/whisper-{number}" for number in range(10))
"""Repositories with one content, each to be downloaded by itself."""
GATED, TOKEN = "gated/whisper", "t0ken"
"""One that is given to nobody without this token."""


@pytest.fixture(scope="session")
def cluster(cluster):
    """The cluster; of an existing one (TRANSCRIPTION_CLUSTER=existing) its owner must say two things more."""
    if cluster.kind == "existing" and not (cluster.host_address and cluster.volume):
        pytest.exit(
            "TRANSCRIPTION_CLUSTER=existing: set TRANSCRIPTION_HOST_ADDRESS (where pods reach servers on this machine)"
            " and TRANSCRIPTION_VOLUME_ROOT (a folder of its node that this machine sees under the same path, owned by"
            " 10001:10001); TRANSCRIPTION_REGISTRY names the registry that the images are pushed to.",
            returncode=1,
        )
    return cluster


@pytest.fixture(scope="session")
def own_node(cluster):
    """The cluster, where a test needs to be root on its node."""
    if cluster.kind == "existing":
        pytest.skip("on somebody's cluster no packets are refused")
    return cluster


@pytest.fixture(scope="session")
def kubectl(cluster) -> Kubectl:
    return Kubectl(tools.binary("kubectl"), cluster.kubeconfig)


@pytest.fixture(scope="session")
def killable_folder(tmp_path_factory) -> Path:
    """A model's repository of random weights, for downloads that nobody loads."""
    folder = tmp_path_factory.mktemp("repositories") / "killable"
    write_repository(folder, 24_000_000)
    return folder


@pytest.fixture(scope="session")
def hub_here(cluster, killable_folder) -> Iterator[hub.Hub]:
    """The Hub-compatible server with OpenAI's weights, where pods reach it."""
    random = [Repository(repo, {"main": killable_folder}) for repo in RESUMED]
    random.append(Repository(GATED, {"main": killable_folder}, token=TOKEN, gated=True))
    with hub.serve([*hub.whisper(), *random], host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def s3_here(cluster) -> Iterator[servers.S3]:
    """A real S3 server with a recording, where pods reach it."""
    files = {"interviews/english.mp3": recordings.english()}
    with servers.s3_server(files=files, host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def https_here(cluster, tmp_path_factory) -> Iterator[servers.Files]:
    """A recording over TLS, with a certificate of the test's own authority, where pods reach it."""
    folder = tmp_path_factory.mktemp("www")
    (folder / "video.mp4").symlink_to(recordings.video())
    with servers.https_server(folder, names=(cluster.host_address,), host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def chart_values(cluster, hub_here, https_here) -> dict:
    """What the end-to-end tests install the chart with."""
    built = images.load(cluster, images.build())
    return deployment.values(
        operator_image=built.operator,
        runner_image=built.runner,
        volume=cluster.volume_root,
        hub=hub_here.url,
        # A runner that cannot reach the API server gives up after this many seconds, and a test waits for it.
        extra={
            "runner": {
                "reportPatienceSeconds": 25,
                "caBundle": https_here.ca.read_text(),
                # Ten downloads are on their way at once in one test.
                "downloadResources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            }
        },
    )


def _forget_models(kubectl: Kubectl) -> None:
    """WhisperModels of an earlier session, whose operator may be gone: nobody would remove their finalizers."""
    for model in kubectl.list("whispermodels"):
        name = model["metadata"]["name"]
        kubectl.delete("wm", name, wait=False)
        kubectl.run("patch", "wm", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@pytest.fixture(scope="session")
def operator(cluster, kubectl, chart_values) -> Deployment:
    """The operator, installed by its chart on an empty cache."""
    for folder in ("models", "transcripts"):
        shutil.rmtree(cluster.volume_root / folder, ignore_errors=True)
    deployed = Deployment(cluster, kubectl, tools.binary("helm"))
    if kubectl.get("crd", "transcriptionjobs.transcription.dev"):
        kubectl.run("delete", "tj", "-A", "--all")
    if kubectl.get("crd", "whispermodels.transcription.dev"):
        _forget_models(kubectl)
    kubectl.run("delete", "jobs", "-n", deployment.NAMESPACE, "--all", "--ignore-not-found")
    deployed.install(chart_values)
    return deployed


@pytest.fixture
def namespaces(request, cluster, kubectl, operator) -> Iterator:
    """Makes namespaces named after the test, and takes them away."""
    made: list[Namespace] = []

    def make(suffix: str = "") -> Namespace:
        slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
        namespace = Namespace(kubectl, f"e2e-{slug}{suffix}", deployment.recordings_folder(cluster))
        namespace.remove(wait=True)
        namespace.create()
        made.append(namespace)
        return namespace

    yield make
    for namespace in made:
        namespace.remove(wait=False)


@pytest.fixture
def namespace(namespaces) -> Namespace:
    return namespaces()


@pytest.fixture(scope="session")
def volume(cluster) -> Path:
    return cluster.volume_root
