"""What these tests need on an API server: the CRD, and namespaces of their own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.integration.crds.client import CRD, JOBS, Api, Object, Refused, job

ROOT = Path(__file__).resolve().parents[3]
CRD_FILE = ROOT / "crds" / "transcriptionjobs.yaml"


def established(api: Api, patience: float = 30) -> None:
    """Applies crds/transcriptionjobs.yaml and waits until the API server holds manifests to its rules."""
    wanted: Object = yaml.safe_load(CRD_FILE.read_text())
    api.apply(CRD, wanted, "test-crds")
    until = time.monotonic() + patience
    while not _refuses_nonsense(api):
        if time.monotonic() > until:
            raise AssertionError(f"not established: {api.get(CRD).get('status')}")
        time.sleep(0.1)


def _refuses_nonsense(api: Api) -> bool:
    try:
        api.create(JOBS.format(namespace="default"), job("probe", {"audio": {}, "model": "base"}), dryRun="All")
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
