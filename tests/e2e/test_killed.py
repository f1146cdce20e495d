"""kill -9 of downloads on the node, at ten points of their way: the next pod resumes, and what comes of it verifies."""

from __future__ import annotations

import shutil
import time

import pytest

from tests import deployment
from tests.e2e.conftest import RESUMED
from tests.e2e.test_models import declare, sha256
from tests.e2e.world import Model
from tests.kubectl import condition, eventually
from tests.materials.faults import Fault

POINTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95)
"""Parts of the weights that have been sent when the process dies; at 0 it has just begun."""
RATE = 600_000


def weights(repo: str) -> str:
    return f"{repo}/model.safetensors"


@pytest.fixture
def killable(kubectl, operator, volume, hub_here, killable_folder):
    """Ten models that nobody has brought yet, and that come slowly."""
    models = [Model(kubectl, volume, repo) for repo in RESUMED]
    for model in models:
        shutil.rmtree(model.folder, ignore_errors=True)
    hub_here.behaviour.forget()
    hub_here.behaviour.add(Fault("slow", path=weights("resume/*"), rate=RATE))
    yield models
    hub_here.behaviour.clear()
    for model in models:
        model.annotate("keep-files", "true")
        model.delete()
        shutil.rmtree(model.folder)


def test_a_download_killed_at_ten_points(killable, kubectl, own_node, hub_here, killable_folder):
    whole = killable_folder / "model.safetensors"
    size = whole.stat().st_size
    for number, model in enumerate(killable):
        declare(kubectl, f"resumed-{number}", model.repo)

    def kill(repo: str) -> bool:
        found = own_node.run_in_node(["pkill", "-KILL", "-f", f"models download {repo} "], check=False)
        return found.returncode == 0

    left = dict(zip(RESUMED, POINTS, strict=True))
    until = time.monotonic() + 480
    while left:
        assert time.monotonic() < until, f"not killed yet: {left}"
        for repo, point in list(left.items()):
            if hub_here.behaviour.sent(weights(repo)) >= point * size and kill(repo):
                del left[repo]
        time.sleep(0.05)

    for model, point in zip(killable, POINTS, strict=True):
        resource = model.ready()
        assert condition(resource, "Verified")["status"] == "True"
        assert sha256(model.file("model.safetensors")) == sha256(whole)
        assert not list(model.folder.rglob("*.part"))
        sent = hub_here.behaviour.sent(weights(model.repo))
        assert sent < 1.25 * size, f"killed at {point}: {sent} bytes for a file of {size}"
        if point:
            ranges = [request.range for request in hub_here.behaviour.requests(weights(model.repo), "content")]
            assert any(ranges), "it was resumed"

    def codes() -> list[int]:
        pods = kubectl.list("pods", deployment.NAMESPACE, "app.kubernetes.io/component=download")
        states = [s["state"].get("terminated") or {} for p in pods for s in p["status"].get("containerStatuses", [])]
        return [state.get("exitCode", -1) for state in states]

    eventually(codes, lambda found: found.count(137) >= len(POINTS), what="ten pods ended by kill -9", seconds=10)
