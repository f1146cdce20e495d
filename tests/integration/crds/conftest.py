"""An API server that knows the CRD, and a namespace to try manifests in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import tools
from tests.integration.crds.client import Api
from tests.integration.crds.server import established, namespaced


@pytest.fixture(scope="session")
def kubectl(control_plane) -> Callable[..., str]:
    """kubectl's standard output."""

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [str(tools.binary("kubectl")), f"--kubeconfig={control_plane.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def api(control_plane) -> Api:
    """The API server, as an administrator, with the CRD of crds/ established."""
    server = Api.of(Path(control_plane.kubeconfig))
    established(server)
    return server


@pytest.fixture(scope="module")
def namespace(api) -> Iterator[str]:
    """A namespace of the module's own."""
    with namespaced(api, "crds") as name:
        yield name
