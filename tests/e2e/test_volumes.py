"""The shared volume on a node: what pods may do to it, and what a user reads when something is wrong with a volume."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from tests.kubectl import condition, eventually
from tests.materials import recordings
from tests.materials.pins import WEIGHTS

OWNER = 10001


def made(folder):
    """A folder of the shared volume, there as the operator's pods would make it."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    os.chown(folder, OWNER, OWNER)
    return folder


@contextlib.contextmanager
def owned_by(folder, uid):
    """A folder of the shared volume that belongs to another user for a while."""
    os.chown(made(folder), uid, uid)
    try:
        yield
    finally:
        made(folder)


@contextlib.contextmanager
def mounted_over(node, folder, *commands):
    """Something mounted over a folder on the node, seen by pods that start meanwhile."""
    for command in commands:
        node.run_in_node(["mount", *command, str(folder)])
    try:
        yield
    finally:
        node.run_in_node(["umount", "--lazy", str(folder)])


def a_claim(namespace, name, **source):
    """A claim of the namespace's, bound to a volume that is no good; returns how to take the volume away."""
    volume = f"{name}-{namespace.name}"
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    namespace.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                **source,
                "capacity": {"storage": "1Gi"},
                "claimRef": {"namespace": namespace.name, "name": name},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace.name},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    return volume


PINNED = f"{WEIGHTS['tiny.en'].repo}@{WEIGHTS['tiny.en'].revision}"
"""A revision that no other test brings into the cache."""
DRIVER = "missing.example.org"
BAD_VOLUMES = {
    "VolumeMissing": {"hostPath": {"path": "/no/such/folder", "type": "Directory"}},
    "VolumeDriverMissing": {"csi": {"driver": DRIVER, "volumeHandle": "x"}},
    # The node has no mount.nfs; with one it would say that nobody answers.
    "VolumeMountFailed": {"nfs": {"server": "192.0.2.1", "path": "/export"}},
}


@pytest.fixture(scope="module")
def driver(kubectl):
    """A CSI driver that the cluster knows and no node runs."""
    body = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER}}
    kubectl.apply({**body, "spec": {"attachRequired": False}})
    yield
    kubectl.delete("csidriver", DRIVER)


@pytest.mark.parametrize("reason", BAD_VOLUMES)
def test_a_volume_that_cannot_be_mounted(namespace, kubectl, driver, reason):
    volume = a_claim(namespace, "bad", **BAD_VOLUMES[reason])
    try:
        job = namespace.job("waits", audio={"volume": {"claimName": "bad", "path": "a.wav"}}, cache="Fresh")
        waiting = job.until(lambda r: condition(r, "Started").get("reason") == reason, "says what is wrong with it")
        assert "FailedMount" in condition(waiting, "Started")["message"]
    finally:
        kubectl.delete("tj", "waits", namespace.name)
        kubectl.delete("pvc", "bad", namespace.name, wait=False)
        kubectl.delete("pv", volume, wait=False)


def test_a_claim_without_a_volume(namespace):
    namespace.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "unbound", "namespace": namespace.name},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    job = namespace.job("waits", audio={"volume": {"claimName": "unbound", "path": "a.wav"}}, cache="Fresh")
    waiting = job.until(lambda r: condition(r, "Started").get("reason") == "VolumeNotBound", "says what it waits for")
    assert "unbound immediate PersistentVolumeClaims" in condition(waiting, "Started")["message"]


def test_a_transcripts_folder_of_another_owner(namespace, volume):
    with owned_by(volume / "transcripts", 0):
        message = namespace.job("foreign", recording=recordings.dashwood(), model="tiny.en").failed("PermissionDenied")
    assert "uid 0" in message
    assert "uid 10001" in message
    assert "chown" in message


def empty_models(node, volume, options):
    """An empty, small file system in place of the volume's models."""
    return mounted_over(node, made(volume / "models"), ("-t", "tmpfs", "-o", options, "tmpfs"))


def test_a_models_folder_of_another_owner(namespace, own_node, volume):
    with empty_models(own_node, volume, "size=8m,mode=755"):
        message = namespace.job("foreign", recording=recordings.dashwood(), model=PINNED).failed("ModelNotAvailable")
    assert "WrongOwner" in message
    assert "uid 0" in message
    assert "uid 10001" in message


def test_a_full_volume(namespace, own_node, volume):
    with empty_models(own_node, volume, "size=8m,mode=755,uid=10001,gid=10001"):
        job = namespace.job("full", recording=recordings.dashwood(), model=PINNED)
        waiting = job.until(
            lambda r: "VolumeFull" in condition(r, "ModelReady").get("message", ""), "says that there is no space"
        )
    assert condition(waiting, "ModelReady")["status"] == "False"
    assert "free" in condition(waiting, "ModelReady")["message"], "and how much is free, and needed"


@contextlib.contextmanager
def throttled(node, folder, rate):
    """A file system over a folder that takes so many bytes a second (bindfs, over FUSE)."""
    below = made(folder.parent.parent / "below")
    node.run_in_node(["bindfs", f"--write-rate={rate}", "-o", "allow_other,nonempty", str(below), str(made(folder))])
    try:
        yield
    finally:
        node.run_in_node(["umount", "--lazy", str(folder)])
        shutil.rmtree(below)


def test_a_slow_volume(namespace, kubectl, own_node, volume):
    with throttled(own_node, volume / "models", "2M"):
        job = namespace.job("slow", recording=recordings.dashwood(), model=PINNED)
        waiting = job.until(
            lambda r: "VolumeSlow" in condition(r, "ModelReady").get("message", ""), "says that the volume is slow"
        )
        [model] = [
            m for m in kubectl.list("whispermodels") if m["spec"]["source"]["hub"]["revision"] == PINNED.split("@")[1]
        ]
        assert condition(model, "Ready")["reason"] == "VolumeSlow"
        assert "MB/s" in model["status"]["progress"]["message"]
        assert "BurstCreditBalance" in condition(waiting, "ModelReady")["message"]
        assert waiting["status"]["phase"] == "WaitingForModel", "it goes on, however slowly"
        kubectl.delete("tj", "slow", namespace.name)
        kubectl.delete("wm", model["metadata"]["name"])


def test_a_volume_that_is_read_only(namespace, own_node, volume):
    made(volume / "transcripts")
    bind = ("--bind", str(volume)), ("-o", "remount,ro,bind")
    with mounted_over(own_node, volume, *bind):
        message = namespace.job("read-only", recording=recordings.dashwood(), model="tiny.en").failed("OutputFailed")
    assert "Read-only file system" in message


def test_a_runner_can_change_nothing_of_the_volume_but_its_own_transcript(namespace, kubectl, volume):
    other = namespace.job("other", recording=recordings.dashwood(), model="tiny.en")
    other.succeeded()
    kept = (volume / "transcripts" / namespace.name / "other" / "other.json").read_bytes()
    job = namespace.job("nosy", recording=recordings.english_20min().path, model="tiny.en")
    pod = job.running_pod()["metadata"]["name"]

    def refused(script):
        return kubectl.refusal("exec", "-n", namespace.name, pod, "-c", "runner", "--", "sh", "-c", script)

    assert "Read-only file system" in refused("touch /models/mine")
    assert "Read-only file system" in refused("rm -r /models/models--openai--whisper-tiny.en")
    assert "Read-only file system" in refused("mount -o remount,rw /models; touch /models/mine")
    assert "No such file" in refused("ls /cache")
    assert "No such file" in refused("cat /transcripts/../other/other.json /transcripts/other/other.json")
    search = "find / -name 'other*' 2>/dev/null; true"
    seen = kubectl.run("exec", "-n", namespace.name, pod, "-c", "runner", "--", "sh", "-c", search)
    assert "other.json" not in seen
    assert (volume / "transcripts" / namespace.name / "other" / "other.json").read_bytes() == kept
    mounts = kubectl.run("exec", "-n", namespace.name, pod, "-c", "runner", "--", "cat", "/proc/mounts").splitlines()
    places = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    assert "ro" in places["/models"]
    assert "rw" in places["/transcripts"]


def test_the_volume_goes_with_its_namespace_and_the_data_stays(namespaces, kubectl, operator, volume):
    short = namespaces("-gone")
    short.job("last", recording=recordings.dashwood(), model="tiny.en").succeeded()
    name = f"transcription-cache-{short.name}"
    assert kubectl.get("pv", name)["status"]["phase"] == "Bound"

    kubectl.delete("namespace", short.name, wait=True)
    # The sweep that takes it away comes every five minutes, and at a start.
    kubectl.run("rollout", "restart", "-n", "transcription-system", "deployment/transcription-operator")

    eventually(lambda: kubectl.get("pv", name), lambda pv: pv is None, what="its volume goes", seconds=90)
    assert (volume / "transcripts" / short.name / "last" / "last.json").exists()
