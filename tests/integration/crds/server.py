"""What these tests need on an API server: the CRD, and namespaces of their own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.integration.crds.client import CRDS, JOBS, MODELS, Api, Object, Refused, job, model

ROOT = Path(__file__).resolve().parents[3]
CRD_FILES = sorted((ROOT / "crds").glob("*.yaml"))


def established(api: Api, patience: float = 30) -> None:
    """Applies crds/*.yaml and waits until the API server holds manifests to their rules."""
    for file in CRD_FILES:
        wanted: Object = yaml.safe_load(file.read_text())
        api.apply(f"{CRDS}/{wanted['metadata']['name']}", wanted, "test-crds")
    nonsense = {
        JOBS.format(namespace="default"): job("probe", {"audio": {}, "model": "base"}),
        MODELS: model("probe", {}),
    }
    until = time.monotonic() + patience
    while not all(_refused(api, path, body) for path, body in nonsense.items()):
        if time.monotonic() > until:
            raise AssertionError(f"not established: {[i.get('status') for i in api.get(CRDS)['items']]}")
        time.sleep(0.1)


def _refused(api: Api, path: str, body: Object) -> bool:
    try:
        api.create(path, body, dryRun="All")
    except Refused as refused:
        return refused.status == 422
    return False


@contextlib.contextmanager
def namespaced(api: Api, prefix: str) -> Iterator[str]:
    """A namespace, gone afterwards where a controller manager empties it."""
    name = f"{prefix}-{secrets.token_hex(3)}"
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        with contextlib.suppress(Refused):
            api.delete(f"/api/v1/namespaces/{name}")
