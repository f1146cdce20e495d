"""The chart's EFS example as it is, with Amazon's CSI driver on the node (efs.py says what is a stand-in)."""

from __future__ import annotations

import os
import shutil

import pytest
import yaml

from tests.deployment import CHART, NAMESPACE, merge
from tests.e2e import efs
from tests.e2e.world import Model
from tests.kubectl import condition
from tests.materials import recordings

EXAMPLE = yaml.safe_load((CHART / "examples" / "efs.yaml").read_text())
HANDLE = EXAMPLE["cache"]["volume"]["csi"]["volumeHandle"]
FILE_SYSTEM, _, ACCESS_POINT = HANDLE.partition("::")
TINY = "openai/whisper-tiny.en"


@pytest.fixture(scope="module")
def mounted(own_node, kubectl, volume, tmp_path_factory):
    """The driver, and a file system whose root is an access point's: 10001:10001, mode 755."""
    folder = volume.parent / "efs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    os.chown(folder, 10001, 10001)
    with efs.driver(own_node, kubectl, folder, tmp_path_factory.mktemp("efs")) as driver:
        yield driver


@pytest.fixture(scope="module")
def on_efs(operator, mounted, chart_values):
    """The release with the example's values; the other tests' comes back."""
    operator.install(merge(merge(chart_values, EXAMPLE), {"cache": {"volume": {"hostPath": None}}}))
    yield mounted
    operator.install(chart_values)


def test_two_namespaces_and_one_download(on_efs, namespaces, kubectl, hub_here, whisper_tiny_en):
    hub_here.behaviour.forget()
    tiny = Model(kubectl, on_efs.folder, TINY)
    tiny.delete()
    both = [namespaces("-a"), namespaces("-b")]

    jobs = [each.job("interview", recording=recordings.dashwood(), model="tiny.en") for each in both]

    for job in jobs:
        assert "prudently" in job.succeeded()["result"]["text"]
        assert (on_efs.folder / "transcripts" / job.namespace / job.name / f"{job.name}.json").exists()
    size = (whisper_tiny_en / "model.safetensors").stat().st_size
    assert hub_here.behaviour.sent("*whisper-tiny.en*/model.safetensors") == size, "one download"
    assert tiny.file("model.safetensors").stat().st_uid == 10001

    for namespace in (NAMESPACE, *(each.name for each in both)):
        spec = kubectl.get("pv", f"transcription-cache-{namespace}")["spec"]
        assert spec["csi"]["volumeHandle"] == HANDLE
        assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    assert len(on_efs.mounts) >= 3, "the download's pod, and each namespace's"
    for options, source in on_efs.mounts:
        assert source == f"{FILE_SYSTEM}:/"
        assert {f"accesspoint={ACCESS_POINT}", "tls", "iam"} <= options
    tiny.delete()
    assert not tiny.folder.exists()


REFUSALS = {
    "VolumeAccessDenied": "mount.nfs4: access denied by server while mounting 127.0.0.1:/",
    "VolumeUnreachable": f'Failed to resolve "{FILE_SYSTEM}.efs.eu-central-1.amazonaws.com" - check that your file '
    "system ID is correct, and ensure that the VPC has an EFS mount target for this file system ID.",
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_efs_refuses_is_said_and_mended_by_itself(on_efs, namespace, reason):
    with on_efs.refusing(REFUSALS[reason]):
        job = namespace.job("waits", recording=recordings.dashwood(), model="tiny.en", cache="Fresh")
        waiting = job.until(lambda r: condition(r, "Started").get("reason") == reason, "says what is wrong")
        assert REFUSALS[reason][:40] in condition(waiting, "Started")["message"]
    job.succeeded()
