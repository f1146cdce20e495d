"""What these tests need on an API server: the CRD, and namespaces of their own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.integration.crds.client import CRD, JOBS, Api, Object, Refused

ROOT = Path(__file__).resolve().parents[3]
CRD_FILE = ROOT / "crds" / "transcriptionjobs.yaml"


def established(api: Api, patience: float = 30) -> None:
    """Applies crds/transcriptionjobs.yaml and waits until its resources are served with that very schema."""
    wanted: Object = yaml.safe_load(CRD_FILE.read_text())
    applied = api.apply(CRD, wanted, "test-crds")
    until = time.monotonic() + patience
    while not _serves(api, applied):
        if time.monotonic() > until:
            raise AssertionError(f"not established: {api.get(CRD).get('status')}")
        time.sleep(0.1)


def _serves(api: Api, applied: Object) -> bool:
    conditions = api.get(CRD).get("status", {}).get("conditions", [])
    if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
        return False
    try:
        api.get(JOBS.format(namespace="default"))
        return _default_comes(api)
    except Refused:
        return False


def _default_comes(api: Api) -> bool:
    """The handler may still have an older schema for a moment: a refusal of the present one shows that it is there."""
    probe = {
        "apiVersion": "transcription.dev/v1alpha1",
        "kind": "TranscriptionJob",
        "metadata": {"name": "probe"},
        "spec": {"audio": {}, "model": "base"},
    }
    try:
        api.create(JOBS.format(namespace="default"), probe, dryRun="All")
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
