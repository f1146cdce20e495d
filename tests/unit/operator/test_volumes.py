"""The shared volume in every namespace: what its PersistentVolume says, and when one is made, replaced, taken away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.building import settings
from tests.unit.operator.fake import FakeServer
from transcription_operator import access, models, resolve, volume_trouble
from transcription_operator import api as k8s
from transcription_operator.errors import Conflict, SettingsError
from transcription_operator.manifests import handles, volume

SYSTEM = "transcription-system"


def csi(driver: str, handle: str, **attributes: str) -> dict[str, Any]:
    return {"csi": {"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes}}


# --- handles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (csi("efs.csi.aws.com", "fs-1::fsap-2"), "fs-1::fsap-2"),
        (csi("efs.csi.aws.com", "fs-1:/models:fsap-2"), "fs-1:/models:fsap-2"),
        (csi("filestore.csi.storage.gke.io", "modeInstance/zone/name/share"), "modeInstance/zone/name/share"),
        (csi("nfs.csi.k8s.io", "nfs.example.org/export##"), "nfs.example.org/export##-team-a"),
        (csi("smb.csi.k8s.io", "smb-server/share##"), "smb-server/share##-team-a"),
        (csi("csi.juicefs.com", "transcription"), "transcription-team-a"),
        (csi("file.csi.azure.com", "whisper"), "whisper-team-a"),
        (csi("file.csi.azure.com", "group#account#share"), "group#account#share##team-a"),
        (csi("file.csi.azure.com", "group#account#share#"), "group#account#share##team-a"),
        (csi("file.csi.azure.com", "g#a#s##uuid#secrets"), "g#a#s##uuid-team-a#secrets"),
        (csi("file.csi.azure.com", "#a#s##secrets"), "#a#s##secrets"),
        (csi("cephfs.csi.ceph.com", "whisper", staticVolume="true"), "whisper-team-a"),
        (csi("rook-ceph.cephfs.csi.ceph.com", "whisper", staticVolume="true"), "whisper-team-a"),
        (csi("cephfs.csi.ceph.com", "0001-0009-rook-ceph-0000"), "0001-0009-rook-ceph-0000"),
        (csi("csi.example.org", "vol-1"), "vol-1"),
    ],
)
def test_a_handle_is_what_its_driver_takes(source, expected):
    before = str(source)
    assert handles.source_for(source, "team-a")["csi"]["volumeHandle"] == expected
    assert str(source) == before


def test_an_unknown_drivers_handle_is_the_namespaces_own_if_the_settings_say_so():
    unknown = csi("csi.example.org", "vol-1")
    assert handles.source_for(unknown, "team-a", handles.PER_NAMESPACE)["csi"]["volumeHandle"] == "vol-1-team-a"
    nfs = csi("nfs.csi.k8s.io", "share")
    assert handles.source_for(nfs, "team-a", handles.SAME)["csi"]["volumeHandle"] == "share"


@pytest.mark.parametrize("source", [{"nfs": {"server": "x", "path": "/y"}}, {"hostPath": {"path": "/y"}}])
def test_volumes_in_tree_have_no_handle(source):
    assert handles.source_for(source, "team-a", handles.PER_NAMESPACE) == source


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ({"volume": csi("efs.csi.aws.com", "fs-1"), "volumeHandles": "PerNamespace"}, "takes no addition"),
        ({"volumeHandles": "Unique"}, "'Unique' is none of Same, PerNamespace"),
        ({"storageClassName": "nfs"}, "give exactly one PersistentVolume source"),
        ({"volume": {}}, "none at all only with bakedModels"),
    ],
)
def test_settings_that_contradict_themselves(cache, words):
    with pytest.raises(SettingsError, match=words):
        settings(cache=cache)


# --- manifests ---------------------------------------------------------------------------------------------


def made_of(settings_: Any, namespace: str = "team-a") -> dict[str, Any]:
    return volume.persistent_volume(namespace, volume.of_settings(settings_.cache), settings_)


def test_a_namespaces_volume_is_reserved_for_its_claim():
    made, claim = made_of(settings()), volume.claim("team-a", settings())
    assert made["metadata"]["name"] == claim["spec"]["volumeName"] == "transcription-cache-team-a"
    assert made["spec"]["claimRef"]["namespace"] == "team-a"
    assert made["spec"]["claimRef"]["name"] == claim["metadata"]["name"] == "transcription-cache"
    assert made["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert made["spec"]["hostPath"] == {"path": "/srv/transcription"}


def test_what_the_api_server_fills_in_is_no_difference():
    made = made_of(settings())
    made["spec"]["hostPath"]["type"] = ""
    made["spec"]["claimRef"] |= {"uid": "1", "resourceVersion": "2"}
    assert volume.difference(made, made_of(settings())) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volume": {"hostPath": {"path": "/new"}}}, "its hostPath.path is '/srv/transcription' and should be '/new'"),
        ({"volume": {"nfs": {"server": "x", "path": "/y"}}}, "its hostPath.path is '/srv/transcription' and should be"),
        ({"mountOptions": ["hard"]}, "its mountOptions"),
        ({"nodeAffinity": {"required": {}}}, "its mountOptions or its nodeAffinity"),
    ],
)
def test_a_difference_is_told(change, words):
    assert words in str(volume.difference(made_of(settings()), made_of(settings(cache=change))))


def test_a_larger_size_is_no_other_volume():
    assert volume.difference(made_of(settings()), made_of(settings(cache={"size": "1Ti"}))) is None


# --- made, replaced, taken away ----------------------------------------------------------------------------


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def bound(server: FakeServer, namespace: str = "team-a") -> dict[str, Any]:
    """What the volume binder does."""
    made = server.objects["persistentvolumes", None, f"transcription-cache-{namespace}"]
    claim = server.objects["persistentvolumeclaims", namespace, "transcription-cache"]
    made["spec"]["claimRef"]["uid"] = claim["metadata"]["uid"]
    made["status"] = {"phase": "Bound"}
    return made


def a_user(server: FakeServer, phase: str = "Running") -> None:
    body = {
        "metadata": {"name": "tj-x", "namespace": "team-a", "uid": "pod"},
        "spec": {"volumes": [{"emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "transcription-cache"}}]},
        "status": {"phase": phase},
    }
    server.objects["pods", "team-a", "tj-x"] = body


def test_a_pair_is_made_once(server):
    access.ensure_cache(server, "team-a", settings())
    bound(server)
    writes = server.writes
    access.ensure_cache(server, "team-a", settings())
    assert server.writes == writes == 2


def test_a_volume_that_changed_is_replaced_once_nobody_uses_it(server):
    access.ensure_cache(server, "team-a", settings())
    bound(server)
    other = settings(cache={"volume": {"hostPath": {"path": "/new"}}})
    a_user(server)
    with pytest.raises(Conflict, match="now these do: tj-x") as conflict:
        access.ensure_cache(server, "team-a", other)
    assert conflict.value.reason == "VolumeChanged"
    assert bound(server)["spec"]["hostPath"] == {"path": "/srv/transcription"}

    a_user(server, "Succeeded")
    with pytest.raises(Conflict, match="it is being replaced"):
        access.ensure_cache(server, "team-a", other)
    access.ensure_cache(server, "team-a", other)
    assert bound(server)["spec"]["hostPath"] == {"path": "/new"}


def test_nothing_is_made_beside_a_claim_that_goes(server):
    access.ensure_cache(server, "team-a", settings())
    bound(server)
    claim = server.objects["persistentvolumeclaims", "team-a", "transcription-cache"]
    claim["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    with pytest.raises(Conflict, match="is being deleted") as conflict:
        access.ensure_cache(server, "team-a", settings())
    assert conflict.value.reason == "VolumeNotReady"


@pytest.mark.parametrize("begun", [False, True], ids=["given up now", "already going"])
def test_finished_jobs_let_go_of_a_claim_that_goes(server, begun):
    """Kubernetes keeps a claim for as long as there is a pod that names it, finished ones included."""
    access.ensure_cache(server, "team-a", settings())
    bound(server)
    a_user(server, "Succeeded")
    pod = server.objects["pods", "team-a", "tj-x"]
    for name in ("ours", "theirs"):
        job = {"metadata": {"name": name, "namespace": "team-a", "uid": name}}
        server.objects["jobs", "team-a", name] = job
        labels = {"app.kubernetes.io/managed-by": "transcription-operator"} if name == "ours" else {}
        owner = {"kind": "Job", "name": name, "uid": name}
        metadata = {"name": name, "uid": f"pod-{name}", "namespace": "team-a", "labels": labels}
        metadata["ownerReferences"] = [owner]
        server.objects["pods", "team-a", name] = {**pod, "metadata": metadata}
    asked = settings()
    if begun:
        claim = server.objects["persistentvolumeclaims", "team-a", "transcription-cache"]
        claim["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    else:
        asked = settings(cache={"volume": {"hostPath": {"path": "/new"}}})

    with pytest.raises(Conflict):
        access.ensure_cache(server, "team-a", asked)

    assert [name for kind, _, name in server.objects if kind == "jobs"] == ["theirs"]


@pytest.fixture
def of_class() -> Any:
    return settings(cache={"volume": {}, "storageClassName": "nfs-csi"})


def provisioned(server: FakeServer) -> dict[str, Any]:
    """What a storage class does for the operator's own claim."""
    claim = server.objects["persistentvolumeclaims", SYSTEM, "transcription-cache"]
    claim["spec"]["volumeName"] = "pvc-1"
    made: dict[str, Any] = {
        "metadata": {"name": "pvc-1", "uid": "pv-uid"},
        "spec": {
            **csi("nfs.csi.k8s.io", "server#share#pvc-1##", server="server", share="/share", subdir="pvc-1"),
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "10Gi"},
            "claimRef": {"name": "transcription-cache", "namespace": SYSTEM, "uid": claim["metadata"]["uid"]},
            "mountOptions": ["nfsvers=4.1"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "nfs-csi",
            "volumeMode": "Filesystem",
        },
    }
    server.objects["persistentvolumes", None, "pvc-1"] = made
    return made


def test_what_a_storage_class_made_is_shared_with_every_namespace(server, of_class):
    with pytest.raises(Conflict, match="waits for storage class nfs-csi") as conflict:
        access.ensure_cache(server, "team-a", of_class)
    assert conflict.value.reason == "VolumeNotReady"
    own = server.objects["persistentvolumeclaims", SYSTEM, "transcription-cache"]
    assert own["spec"]["storageClassName"] == "nfs-csi"
    assert "volumeName" not in own["spec"]
    made = provisioned(server)

    access.ensure_cache(server, "team-a", of_class)

    shared = server.objects["persistentvolumes", None, "transcription-cache-team-a"]["spec"]
    assert shared["csi"]["volumeAttributes"] == made["spec"]["csi"]["volumeAttributes"]
    assert shared["csi"]["volumeHandle"] == "server#share#pvc-1##-team-a"
    assert shared["mountOptions"] == ["nfsvers=4.1"]
    assert shared["storageClassName"] == ""
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain", "what it holds must not go with one claim"


def test_the_operators_own_claim_stays_the_classes(server, of_class):
    for _ in range(2):
        access.ensure_cache(server, SYSTEM, of_class)
    assert [key for key in server.objects if key[0] == "persistentvolumes"] == []
    assert server.writes == 1


def test_what_a_class_made_is_retained_before_anybody_shares_it(server, of_class):
    access.ensure_cache(server, SYSTEM, of_class)
    made = provisioned(server)
    access.ensure_cache(server, SYSTEM, of_class)
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize("to_class", [True, False])
def test_a_claim_that_other_settings_led_to_is_a_persons_to_delete(server, of_class, to_class):
    before, after = (settings(), of_class) if to_class else (of_class, settings())
    access.ensure_cache(server, SYSTEM, before)
    if not to_class:
        provisioned(server)
    there = dict(server.objects)
    with pytest.raises(Conflict, match="kubectl -n transcription-system delete pvc transcription-cache") as conflict:
        access.ensure_cache(server, SYSTEM, after)
    assert conflict.value.reason == "VolumeChanged"
    assert server.objects == there, "with a class that deletes, the data would go with it"


def test_without_a_volume_nothing_is_made(server):
    access.ensure_cache(server, "team-a", settings(cache={"volume": {}}, bakedModels=["base"]))
    assert server.objects == {}


@pytest.mark.parametrize(
    ("model", "cache", "expected"),
    [
        ("base", {"volume": {}}, "Baked"),
        ("small", {"volume": {}}, "NoVolume"),
        ("base", {}, "Baked"),
        ("small", {}, None),
    ],
)
def test_a_model_in_the_image_needs_no_cache(model, cache, expected):
    state = resolve.without_cache(models.parse(model), settings(cache=cache, bakedModels=["openai/whisper-base"]))
    assert (state.status if state else None) == expected
    assert expected != "NoVolume" or "runner.bakedModels" in str(state)


def test_a_whispermodel_needs_a_volume():
    access.require_volume(settings())
    with pytest.raises(Conflict, match="no shared volume"):
        access.require_volume(settings(cache={"volume": {}}, bakedModels=["base"]))


def test_a_volume_goes_with_its_namespace(server):
    for namespace in ("team-a", "team-b"):
        access.ensure_cache(server, namespace, settings())
        bound(server, namespace)
    del server.objects["persistentvolumeclaims", "team-a", "transcription-cache"]
    for namespace in ("team-a", "team-b"):
        server.objects["persistentvolumes", None, f"transcription-cache-{namespace}"]["status"]["phase"] = "Released"

    access.remove_abandoned_volumes(server)

    left = [name for kind, _, name in server.objects if kind == "persistentvolumes"]
    assert left == ["transcription-cache-team-b"], "the claim that it is bound to is still there"


def test_somebody_elses_volume_stays(server):
    body = {
        "metadata": {"name": "theirs"},
        "spec": {"claimRef": {"name": "transcription-cache", "namespace": "gone", "uid": "1"}},
    }
    server.create(k8s.VOLUMES, body)["status"] = {"phase": "Released"}
    access.remove_abandoned_volumes(server)
    assert server.get(k8s.VOLUMES, "theirs")


# --- trouble -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            'FailedMount: MountVolume.MountDevice failed for volume "v" : kubernetes.io/csi: attacher.MountDevice '
            "failed to create newCsiDriverClient: driver name efs.csi.aws.com not found in the list of registered CSI "
            "drivers",
            "VolumeDriverMissing",
        ),
        (
            'FailedMount: MountVolume.SetUp failed for volume "v" : mount failed: exit status 32 Output: mount.nfs: '
            "access denied by server while mounting nfs.example.org:/export",
            "VolumeAccessDenied",
        ),
        (
            'FailedMount: MountVolume.SetUp failed for volume "v" : rpc error: code = Internal desc = Could not mount '
            '"fs-1:/" Output: Failed to resolve "fs-1.efs.eu-central-1.amazonaws.com" - check that your file system ID '
            "is correct, and ensure that the VPC has an EFS mount target for this file system ID.",
            "VolumeUnreachable",
        ),
        (
            'FailedMount: MountVolume.SetUp failed for volume "v" : mount.nfs: Connection timed out',
            "VolumeUnreachable",
        ),
        (
            'FailedMount: MountVolume.SetUp failed for volume "v" : hostPath type check failed: /x is not a directory',
            "VolumeMissing",
        ),
        (
            'FailedMount: MountVolume.SetUp failed for volume "v" : mount: wrong fs type, bad option, bad superblock '
            "on nfs.example.org:/export, missing codepage or helper program, or other error.",
            "VolumeMountFailed",
        ),
        ('FailedMount: MountVolume.SetUp failed for volume "v" : something new', "VolumeMountFailed"),
        ("pod has unbound immediate PersistentVolumeClaims", "VolumeNotBound"),
        ('persistentvolumeclaim "transcription-cache" not found', "VolumeNotBound"),
    ],
)
def test_the_words_of_a_node_have_a_reason(words, reason):
    trouble = volume_trouble.explain(words)
    assert trouble is not None
    assert trouble.reason == reason


@pytest.mark.parametrize("words", ["FailedCreatePodSandBox: no network", "BackOff: Back-off pulling image"])
def test_other_words_are_none_of_a_volumes(words):
    assert volume_trouble.explain(words) is None
