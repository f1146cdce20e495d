"""pytest: clusters as session fixtures, and their logs in the report of a test that fails with one."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.cluster import lifecycle
from tests.cluster.cluster import Cluster

_FIXTURES = ("cluster", "control_plane")
_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kubelet", "containerd", "kube-scheduler")
_LINES = 12

_live: dict[str, Cluster] = {}


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """etcd, API server and controller manager, for this session alone."""
    with lifecycle.control_plane() as started:
        _live["control_plane"] = started
        yield started


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """This checkout's node. It goes with the session unless it was up before, or TRANSCRIPTION_KEEP_CLUSTER is set."""
    before = lifecycle.find()
    started = lifecycle.up()
    _live["cluster"] = started
    yield started
    if before is None and not os.environ.get("TRANSCRIPTION_KEEP_CLUSTER"):
        started.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the components' logs where a test failed."""
    report = yield
    if report.failed:
        for name in _FIXTURES:
            used = _live.get(name)
            if used is not None and used.folder is not None and name in getattr(item, "fixturenames", ()):
                report.sections.append((f"logs of {used.name}: {used.logs}", _tails(used)))
    return report


def _tails(cluster: Cluster) -> str:
    shown = [each for each in _COMPONENTS if (cluster.logs / f"{each}.log").exists()]
    return "\n".join(f"--- {each}\n{cluster.log_tail(each, _LINES)}" for each in shown)
