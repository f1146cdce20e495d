"""Starting and stopping clusters."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

from tests.cluster import cgroups, gpus, node, paths, tools
from tests.cluster.api import Api, ApiError
from tests.cluster.cluster import Cluster
from tests.cluster.containerd import Containerd
from tests.cluster.controlplane import ControlPlane, Endpoints
from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout, Network, checkout_name, choose_network, interface_name
from tests.cluster.locks import exclusive
from tests.cluster.node import Node
from tests.cluster.processes import Process
from tests.cluster.supervisor import Component, Plan
from tests.cluster.waiting import until

_READY_SECONDS = 120.0
_PATIENCE_SECONDS = 30.0
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_UNSHARE = ("unshare", "--fork", "--pid", "--mount", "--net", "--mount-proc", "--kill-child")
_USER = 10001
_KEPT = {"containerd", "volume", "checkout", "lock"}


def up(*, control_plane: bool = False, suffix: str = "") -> Cluster:
    """This checkout's cluster: started, unless it runs and is well. With a suffix it is one more beside it."""
    if wants_existing():
        return existing()
    remove_abandoned()
    layout = _layout(control_plane, suffix)
    layout.claim()
    with exclusive(layout.folder / "lock", f"it starts or stops the cluster {layout.name}"):
        found = Cluster.load(layout.record)
        if found and _recovers(found):
            return found
        _clean(layout)
        return _start_control_plane(layout) if control_plane else _start_node(layout)


def down(cluster: Cluster | None = None, *, control_plane: bool = False, suffix: str = "", purge: bool = False) -> None:
    """Stop a cluster, by default this checkout's; `purge` removes its volume and images too."""
    if cluster is not None and cluster.kind == "existing":
        return
    remove_abandoned()
    layout = Layout(cluster.name) if cluster else _layout(control_plane, suffix)
    if not layout.folder.exists():
        return
    with exclusive(layout.folder / "lock", f"it starts or stops the cluster {layout.name}"):
        _clean(layout)
    if purge:
        shutil.rmtree(layout.folder)


@contextmanager
def control_plane() -> Iterator[Cluster]:
    """A control plane of one's own; it goes with the block, or with this process, whatever ends that."""
    remove_abandoned()
    layout = Layout(f"{checkout_name()}-cp-{os.getpid()}-{secrets.token_hex(2)}")
    layout.claim()
    lifeline, held = os.pipe()
    try:
        yield _start_control_plane(layout, lifeline)
    finally:
        os.close(held)
        os.close(lifeline)
        _clean(layout)
        shutil.rmtree(layout.folder, ignore_errors=True)


def find(*, control_plane: bool = False, suffix: str = "") -> Cluster | None:
    """This checkout's cluster if it is meant to be up, well or not."""
    if wants_existing():
        return existing()
    return Cluster.load(_layout(control_plane, suffix).record)


def _layout(control_plane: bool, suffix: str) -> Layout:
    return Layout("-".join(filter(None, [checkout_name(), suffix, "cp" if control_plane else ""])))


def wants_existing() -> bool:
    """Whether the person asked for KUBECONFIG's cluster."""
    return os.environ.get("TRANSCRIPTION_CLUSTER") == "existing"


def existing() -> Cluster:
    """KUBECONFIG's cluster; what tests need to know of it beyond that comes from the environment."""
    named = os.environ.get("KUBECONFIG", "").split(":")[0] or str(Path.home() / ".kube" / "config")
    path = Path(named)
    if not path.exists():
        raise ClusterError(f"an existing cluster was asked for, and there is no kubeconfig at {path}: set KUBECONFIG")
    folder = os.environ.get("TRANSCRIPTION_VOLUME_ROOT")
    return Cluster(
        name="existing",
        kind="existing",
        kubeconfig=path,
        host_address=os.environ.get("TRANSCRIPTION_HOST_ADDRESS", ""),
        volume=Path(folder) if folder else None,
    )


def healthy(cluster: Cluster) -> bool:
    """Whether everything that `up` waits for holds now."""
    if not cluster.supervisor or not cluster.supervisor.alive():
        return False
    try:
        if not all(each["running"] for each in cluster.components()):
            return False
        api = Api(cluster.kubeconfig, timeout=3)
        return api.ready() and (cluster.kind != "node" or _node_problem(cluster, api) is None)
    except (ClusterError, ApiError, OSError):
        return False


def _recovers(cluster: Cluster) -> bool:
    """Whether it is well, or gets well: one that someone may be using is not ended for a slow moment."""
    if not cluster.supervisor or not cluster.supervisor.alive():
        return False
    with contextlib.suppress(ClusterError):
        for each in cluster.components():
            if not each["wanted"]:
                cluster.resume(str(each["name"]))
        until(lambda: healthy(cluster), f"{cluster.name} is well", _PATIENCE_SECONDS, 0.2)
        return True
    return False


# ---- starting


def _start_control_plane(layout: Layout, lifeline: int | None = None) -> Cluster:
    api_port, etcd_port, peer_port = _free_ports(3)
    plane = ControlPlane(layout, tools.ensure(), Endpoints("127.0.0.1", "127.0.0.1", api_port, etcd_port, peer_port))
    _write_plan(layout, plane.components())
    supervisor = _launch(layout, [], lifeline)
    cluster = Cluster(layout.name, "control-plane", layout.kubeconfig, layout.folder, supervisor=supervisor)
    cluster.save(layout.record)
    with _explained(cluster):
        api = Api(layout.kubeconfig)
        _await(cluster, api.ready, "the API server is ready", "kube-apiserver")
        _await(cluster, lambda: _default_account(api), "the controller manager works", "kube-controller-manager")
    return cluster


def _start_node(layout: Layout) -> Cluster:
    if os.geteuid() != 0:
        raise ClusterError("a node needs root (namespaces, mounts, interfaces): run this as root")
    programs = tools.ensure()
    network = choose_network(layout.name)
    plane = ControlPlane(layout, programs, Endpoints(network.node_address, "0.0.0.0", 6443, 2379, 2380))
    the_node = Node(plane, network, programs)
    _make_volume(layout.volume)
    the_node.make_cgroups()
    the_node.make_mount_points()
    _write_plan(layout, [*plane.components(), *the_node.components()], the_node.setup())
    supervisor = _launch(layout, list(_UNSHARE))
    cluster = Cluster(
        name=layout.name,
        kind="node",
        kubeconfig=layout.kubeconfig,
        folder=layout.folder,
        host_address=network.host_address,
        node_address=network.node_address,
        node_name=the_node.name,
        supervisor=supervisor,
        init=_first_process(supervisor),
    )
    cluster.save(layout.record)
    with _explained(cluster):
        _join(cluster, network)
        _await_node(cluster, layout, programs)
    return cluster


def _await_node(cluster: Cluster, layout: Layout, programs: tools.Tools) -> None:
    runtime = Containerd(layout.containerd_socket)
    _await(cluster, lambda: layout.containerd_socket.exists() and runtime.answers(), "containerd answers", "containerd")
    runtime.remove_containers()
    if node.PAUSE_IMAGE not in runtime.images():
        runtime.import_program(node.PAUSE_IMAGE, programs.path("pause"))
    api = Api(cluster.kubeconfig)
    _await(cluster, api.ready, "the API server is ready", "kube-apiserver")
    for path, manifest in node.dns_permissions():
        api.apply(path, manifest)
    _await(cluster, lambda: _default_account(api), "the controller manager works", "kube-controller-manager")
    deadline = time.monotonic() + _READY_SECONDS
    while problem := _node_problem(cluster, api):
        component, words = problem
        if time.monotonic() > deadline:
            raise ClusterError(f"{words}\n{cluster.log_tail(component)}")
        time.sleep(0.05)


def _node_problem(cluster: Cluster, api: Api) -> tuple[str, str] | None:
    """The first thing that keeps the node from taking pods, with the component to look at."""
    try:
        found = api.get(f"/api/v1/nodes/{cluster.node_name}")
    except ApiError:
        return "kubelet", "the node has not registered"
    conditions = {each["type"]: each["status"] for each in found["status"].get("conditions", [])}
    if conditions.get("Ready") != "True":
        return "kubelet", "the node is not Ready"
    if any(each["effect"] != "PreferNoSchedule" for each in found["spec"].get("taints", [])):
        return "kube-controller-manager", "the node is still tainted"
    if not gpus.advertised(found):
        return "gpu-advertiser", f"{gpus.RESOURCE} is not allocatable"
    if not _http_ok(cluster.node_address, node.PROXY_HEALTH_PORT, "/healthz"):
        return "kube-proxy", "kube-proxy is not healthy: service addresses do not work yet"
    if not _http_ok(cluster.node_address, node.DNS_READY_PORT, "/ready"):
        return "coredns", "DNS does not answer yet"
    return None


def _join(cluster: Cluster, network: Network) -> None:
    """The pair of interfaces between this machine and the node."""
    assert cluster.init is not None
    pid = str(cluster.init.pid)
    inside = ["nsenter", "--target", pid, "--net"]
    until(lambda: _own_network(pid), "the node has a network namespace of its own", 10, 0.005)
    peer = ["peer", "name", network.node_interface, "netns", pid]
    _run(["ip", "link", "add", network.host_interface, "type", "veth", *peer])
    _run(["ip", "addr", "add", f"{network.host_address}/30", "dev", network.host_interface])
    _run(["ip", "link", "set", network.host_interface, "up"])
    _run([*inside, "ip", "link", "set", network.node_interface, "up"])
    _run([*inside, "ip", "addr", "add", f"{network.node_address}/30", "dev", network.node_interface])
    _run([*inside, "ip", "route", "add", "default", "via", network.host_address])


def _own_network(pid: str) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _make_volume(folder: Path) -> None:
    """The shared volume, owned as in production."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, _USER, _USER)
    folder.chmod(0o755)


def _write_plan(layout: Layout, components: list[Component], setup: list[list[str]] | None = None) -> None:
    Plan(str(layout.logs), str(layout.control_socket), components, setup or []).write(layout.plan)


def _launch(layout: Layout, wrapper: list[str], lifeline: int | None = None) -> Process:
    command = [*wrapper, sys.executable, "-IS", str(_SUPERVISOR), str(layout.plan)]
    if lifeline is not None:
        command += ["--lifeline", str(lifeline)]
    with (layout.logs / "supervisor.log").open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.folder,
            start_new_session=True,
            pass_fds=[lifeline] if lifeline is not None else [],
        )
    # It is to outlive this object, and is known from here on by its id and start time.
    started.returncode = 0
    return Process.of(started.pid)


def _first_process(supervisor: Process) -> Process:
    found: list[Process] = []

    def look() -> bool:
        found.extend(supervisor.children())
        return bool(found) or not supervisor.alive()

    until(look, "the node's first process", 10, 0.005)
    if not found:
        raise ClusterError("unshare failed: see the log of the supervisor")
    return found[0]


def _await(cluster: Cluster, condition: Callable[[], bool], what: str, component: str) -> None:
    def holds() -> bool:
        if cluster.supervisor and not cluster.supervisor.alive():
            raise ClusterError(f"the supervisor ended:\n{cluster.log_tail('supervisor')}")
        return condition()

    try:
        until(holds, what, _READY_SECONDS)
    except ClusterError as problem:
        raise ClusterError(f"{problem}\n{cluster.log_tail(component)}") from problem


@contextmanager
def _explained(cluster: Cluster) -> Iterator[None]:
    """A start that fails leaves nothing running, and says where the logs are."""
    try:
        yield
    except BaseException as problem:
        folder = cluster.folder
        assert folder is not None
        _clean(Layout(cluster.name), keep_logs=True)
        if isinstance(problem, ClusterError | ApiError | OSError):
            raise ClusterError(f"{cluster.name} did not start: {problem}\nlogs: {cluster.logs}") from problem
        raise


def _default_account(api: Api) -> bool:
    """A pod in the namespace `default` could be made."""
    try:
        api.get("/api/v1/namespaces/default/serviceaccounts/default")
    except (ApiError, OSError):
        return False
    return True


def _http_ok(address: str, port: int, path: str) -> bool:
    request = f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            connection.sendall(request)
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """All held at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


# ---- stopping


def _clean(layout: Layout, *, keep_logs: bool = False) -> None:
    """End what runs of a cluster, however it was left, and remove all but its logs, volume and images."""
    cluster = Cluster.load(layout.record)
    if cluster:
        _end(cluster)
    _remove_interface(interface_name(layout.name))
    if not cgroups.remove(layout.name):
        raise ClusterError(f"processes in the control group {layout.name} do not end")
    if _mounted_beneath(layout.folder):
        raise ClusterError(f"something is still mounted under {layout.folder}: unmount it")
    kept = _KEPT | ({"logs"} if keep_logs else set())
    for each in layout.folder.iterdir():
        if each.name in kept:
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _end(cluster: Cluster) -> None:
    supervisor, init = cluster.supervisor, cluster.init
    if supervisor is None:
        return
    # Its end is its components': they asked the kernel for that, or live in its namespaces.
    supervisor.signal(SIGKILL if init else SIGTERM)
    if not supervisor.wait(6):
        supervisor.signal(SIGKILL)
        supervisor.wait(2)
    if init:
        init.signal(SIGKILL)
        if not init.wait(15):
            raise ClusterError(f"the node's first process ({init.pid}) does not end")


def _remove_interface(name: str) -> None:
    if Path(f"/sys/class/net/{name}").exists():
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def _mounted_beneath(folder: Path) -> bool:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return any(Path(line.split()[1]).is_relative_to(folder) for line in mounts)


def remove_abandoned() -> None:
    """What nobody will come back to: files of control planes whose owner is dead, and of nodes whose checkout is gone.

    A node keeps its images, 10 GB; a few of them are a full disk, on which the kubelet evicts. One that runs is left
    alone: its checkout may be where this process cannot see it.
    """
    root = paths.clusters_root()
    for mark in root.glob("*/checkout"):
        layout = Layout(mark.parent.name)
        with contextlib.suppress(FileNotFoundError):  # another process removes it, too
            found = Cluster.load(layout.record)
            if Path(mark.read_text()).exists() or (found and found.supervisor and found.supervisor.alive()):
                continue
            _clean(layout)
            shutil.rmtree(layout.folder, ignore_errors=True)
    for folder in root.glob(f"{checkout_name()}-cp-*") if root.exists() else ():
        owner = folder.name.split("-")[3]
        if not Path(f"/proc/{owner}").exists():
            _clean(Layout(folder.name))
            shutil.rmtree(folder, ignore_errors=True)
