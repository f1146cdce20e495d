"""The test cluster itself: found again, gone without a trace, and as strict as a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.cluster import Cluster, control_plane, down, gpus, lifecycle, up
from tests.cluster.api import Api, ApiError
from tests.cluster.layout import Layout, interface_name
from tests.cluster.waiting import until

SUFFIX = "self"


@pytest.fixture(scope="module")
def node_of_this_module():
    """Removed at the end, with its files."""
    yield
    down(suffix=SUFFIX, purge=True)


@pytest.fixture
def own_node(node_of_this_module):
    """A node beside this checkout's own, which may be in use. Well, whatever the test before did to it."""
    return up(suffix=SUFFIX)


@pytest.fixture(scope="module")
def plane():
    with control_plane() as started:
        yield started


def traces(cluster: Cluster) -> list[str]:
    """All that shows that a cluster runs or ran."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{cluster.name}")]
    if Path(f"/sys/class/net/{interface_name(cluster.name)}").exists():
        found.append("interface")
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{cluster.name}/" in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"/{cluster.name}/" in command and process.parent.name != str(os.getpid()):
            found.append(command)
    return found


def started_again(cluster: Cluster, component: str) -> bool:
    return any(each["name"] == component and each["running"] and each["restarts"] for each in cluster.components())


def test_up_finds_what_is_up(own_node):
    again = up(suffix=SUFFIX)

    assert again.supervisor == own_node.supervisor


def test_a_killed_component_comes_back(own_node):
    own_node.kill("kube-apiserver")
    until(lambda: Api(own_node.kubeconfig).ready(), "the API server is back", 60)

    own_node.halt("kube-apiserver")
    until(lambda: not Api(own_node.kubeconfig).ready(), "the API server is gone", 10)
    own_node.resume("kube-apiserver")
    until(lambda: Api(own_node.kubeconfig).ready(), "the API server is back", 60)


def test_up_resumes_what_was_halted(own_node):
    own_node.halt("coredns")

    again = up(suffix=SUFFIX)

    assert again.supervisor == own_node.supervisor
    assert all(each["running"] for each in again.components())


def test_gpus_survive_a_new_kubelet(own_node):
    own_node.kill("kubelet")
    api = Api(own_node.kubeconfig)
    until(lambda: started_again(own_node, "kubelet"), "kubelet is back", 20)
    until(lambda: lifecycle.healthy(own_node), "the node is well", 60)

    assert gpus.advertised(api.get(f"/api/v1/nodes/{own_node.node_name}"))


def test_a_node_offers_gpus_and_owns_its_volume(own_node):
    node = Api(own_node.kubeconfig).get(f"/api/v1/nodes/{own_node.node_name}")

    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert "no GPU" in node["metadata"]["annotations"]["transcription.dev/no-gpu"]
    status = own_node.volume_root.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (10001, 10001, 0o755)


def test_a_killed_node_comes_up_again(own_node):
    os.kill(own_node.init.pid, SIGKILL)

    again = up(suffix=SUFFIX)

    assert again.supervisor != own_node.supervisor
    assert Api(again.kubeconfig).ready()


def test_nothing_remains_of_a_node_whose_supervisor_was_killed(own_node):
    assert traces(own_node)
    os.kill(own_node.supervisor.pid, SIGKILL)
    until(lambda: not own_node.init.alive(), "its first process has ended", 15)
    own_node.down()
    assert traces(own_node) == []


def test_two_control_planes_at_once(plane):
    with control_plane() as other:
        assert other.kubeconfig != plane.kubeconfig
        assert Api(other.kubeconfig).ready()
        assert Api(plane.kubeconfig).ready()
        folder = other.folder
    assert not folder.exists()
    assert traces(other) == []


def test_a_control_plane_goes_with_the_process_that_asked_for_it():
    script = (
        "import os, signal\n"
        "from tests.cluster import control_plane\n"
        "with control_plane() as c:\n"
        "    print(c.supervisor.pid, c.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout, done.stderr
    supervisor, folder = done.stdout.split()
    until(lambda: not Path(f"/proc/{supervisor}").exists(), "the supervisor has ended", 10)
    lifecycle.remove_abandoned()
    assert not Path(folder).exists()


def test_a_node_goes_with_its_checkout(plane, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    folders = [Layout(f"tc-gone-{each}").folder for each in ("kept", "lost")]
    for folder, checkout in zip(folders, (here, tmp_path / "gone"), strict=True):
        (folder / "containerd").mkdir(parents=True)
        (folder / "checkout").write_text(str(checkout))
    lifecycle.remove_abandoned()
    assert [folder.exists() for folder in folders] == [True, False]
    here.rmdir()
    lifecycle.remove_abandoned()
    assert not folders[0].exists()
    assert plane.folder.exists()
    assert Api(plane.kubeconfig).ready()


def test_an_unrestricted_pod_is_refused(plane):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "careless"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    with pytest.raises(ApiError, match="violates PodSecurity") as refused:
        Api(plane.kubeconfig).request("POST", "/api/v1/namespaces/default/pods", pod)
    assert refused.value.status == 403


def test_the_server_says_its_version(plane):
    assert Api(plane.kubeconfig).get("/version")["gitVersion"] == "v1.35.4"
