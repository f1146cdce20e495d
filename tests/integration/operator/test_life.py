"""The life of a TranscriptionJob against a real API server and real controllers; pods' ends are a stand-in's."""

from __future__ import annotations

import pytest

from tests.integration.operator.world import StandIn, World, a_result_receipt, until
from tests.unit.operator.building import RESULT
from transcription_operator import api as k8s
from transcription_operator import names


def test_from_applied_to_complete(world: World, stand_in: StandIn, namespace: str, repo: str):
    world.apply(namespace, cache="Shared", model=repo)

    waiting = world.until_condition(namespace, "ModelReady=False/Downloading")
    assert f"WhisperModel {names.model_resource_name(repo, 'main')} brings {repo}" in waiting["message"]
    assert not list(world.api.list(k8s.JOBS, namespace)), "no runner before its model"
    download = world.download(repo)
    container = download["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:3] == ["models", "download", repo]
    assert not any("gpu" in key for key in container["resources"].get("limits", {}))
    stand_in.ends(world.pod_of(download), 0, "{}")

    world.until_condition(namespace, "ModelReady=True/Ready")
    job = world.job(namespace)
    assert (world.get(namespace) or {})["status"]["jobName"] == job["metadata"]["name"]
    pod = world.pod_of(job)
    world.until_condition(namespace, "Started=False/JobCreated")
    stand_in.runs(pod)
    world.until_condition(namespace, "Started=True/Running")
    assert world.until_phase(namespace, "Running")["status"]["startTime"]

    world.report(namespace)
    stand_in.succeeds(pod)
    complete = world.until_condition(namespace, "Complete=True/Transcribed")
    assert complete["message"] == "Transcribed 4.96 s of audio in 5 s (en, 1 segment)."
    found = until(
        lambda: (f := world.get(namespace)) and names.LABEL_FINISHED in f["metadata"].get("labels", {}) and f,
        "the label of the finished",
    )
    status = found["status"]
    assert status["phase"] == "Succeeded"
    assert status["result"] == RESULT
    assert status["progress"] == {"percent": 100}, "the runner's own is left alone"
    assert status["attempts"] == 1
    assert status["resultRef"]["path"] == "transcripts/x/y/y.json"
    assert status["language"] == "en"
    assert status["duration"] == 4.96
    assert "finalizers" not in found["metadata"]
    assert not any("kopf" in key for key in found["metadata"].get("annotations", {}))
    events = world.events(namespace)
    assert sorted(events) == sorted(set(events)), "each transition once"
    assert {"Downloading", "Ready", "JobCreated", "Running", "Transcribed"} <= set(events)


def test_many_jobs_one_download(world: World, stand_in: StandIn, namespace: str, repo: str):
    for number in range(8):
        world.apply(namespace, f"job-{number}", cache="Shared", model=repo)
    for number in range(8):
        world.until_condition(namespace, "ModelReady=False/Downloading", f"job-{number}")
    download = world.download(repo)
    stand_in.ends(world.pod_of(download), 0, "{}")
    for number in range(8):
        world.until_condition(namespace, "ModelReady=True/Ready", f"job-{number}")
    assert world.download(repo)["metadata"]["uid"] == download["metadata"]["uid"]


def test_a_model_that_is_not_there(world: World, stand_in: StandIn, namespace: str, repo: str):
    world.apply(namespace, cache="Shared", model=repo)
    download = world.download(repo)
    stand_in.fails(world.pod_of(download), "ModelMissing", 66, f"{repo} is not at the Hub.")
    failed = world.until_condition(namespace, "Failed=True/ModelNotAvailable")
    assert f"{repo} is not at the Hub." in failed["message"]
    assert not list(world.api.list(k8s.JOBS, namespace))

    # Set right, and applied again: the download is tried anew.
    world.delete(namespace)
    until(lambda: world.get(namespace) is None, "it is gone")
    ended = download["metadata"]["uid"]
    world.apply(namespace, cache="Shared", model=repo)
    again = until(lambda: (d := world.download(repo))["metadata"]["uid"] != ended and d, "a new download Job")
    stand_in.ends(world.pod_of(again), 0, "{}")
    world.until_condition(namespace, "ModelReady=True/Ready")


def test_a_hub_that_is_down_is_waited_for(world: World, stand_in: StandIn, namespace: str, repo: str):
    world.apply(namespace, cache="Shared", model=repo)
    download = world.download(repo)
    # The Job tries again after 10 s: the first attempt's words must do here.
    stand_in.fails(world.pod_of(download), "SourceUnreachable", 69, "huggingface.co does not answer.")
    waiting = until(
        lambda: (
            (c := world.condition(namespace, "ModelReady"))
            and "huggingface.co does not answer." in c.get("message", "")
            and c
        ),
        "the failed attempt shows",
    )
    assert waiting["status"] == "False"
    assert world.until_phase(namespace, "WaitingForModel")


@pytest.mark.parametrize(
    ("error_class", "code"),
    [
        ("Usage", 64),
        ("BadAudio", 65),
        ("SourceMissing", 66),
        ("ModelMissing", 66),
        ("PermissionDenied", 77),
    ],
)
def test_what_no_retry_can_help_fails_at_once(world, stand_in, namespace, error_class, code):
    world.apply(namespace)
    stand_in.fails(world.pod_of(world.job(namespace)), error_class, code, f"{error_class}, in words.")
    failed = world.until_condition(namespace, f"Failed=True/{error_class}")
    assert failed["message"] == f"{error_class}, in words."
    assert world.until_phase(namespace, "Failed")["status"]["attempts"] == 1
    assert error_class in until(lambda: world.events(namespace), "events")


@pytest.mark.parametrize(
    ("error_class", "code"),
    [("SourceUnreachable", 69), ("Internal", 70), ("OutputFailed", 74), ("Temporary", 75), ("OutOfMemory", 75)],
)
def test_what_was_tried_in_vain_fails_with_its_last_words(world, stand_in, namespace, error_class, code):
    world.apply(namespace, backoffLimit=0)
    stand_in.fails(world.pod_of(world.job(namespace)), error_class, code, "in words.")
    failed = world.until_condition(namespace, f"Failed=True/{error_class}")
    assert failed["message"] == "in words. (attempt 1 of 1)"


def test_killed_by_the_kernel(world, stand_in, namespace):
    world.apply(namespace, backoffLimit=0)
    stand_in.ends(world.pod_of(world.job(namespace)), 137, reason="OOMKilled")
    assert "limits.memory" in world.until_condition(namespace, "Failed=True/OutOfMemory")["message"]


def test_killed_by_somebody(world, stand_in, namespace):
    world.apply(namespace, backoffLimit=0)
    stand_in.ends(world.pod_of(world.job(namespace)), 137)
    assert "signal 9" in world.until_condition(namespace, "Failed=True/RunnerKilled")["message"]


def test_evicted(world, stand_in, namespace):
    world.apply(namespace, backoffLimit=0)
    pod = world.pod_of(world.job(namespace))
    stand_in._write(pod, {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."})
    assert "low on memory" in world.until_condition(namespace, "Failed=True/Evicted")["message"]


def test_the_folder_cannot_be_made(world, stand_in, namespace):
    world.apply(namespace)
    pod = world.pod_of(world.job(namespace))
    words = "/cache belongs to uid 0; uid 10001 is needed."
    stand_in.ends(pod, 77, words, container="prepare")
    assert words in world.until_condition(namespace, "Failed=True/PermissionDenied")["message"]


def test_too_late(world, namespace):
    world.apply(namespace, activeDeadlineSeconds=1)
    assert "(1 s)" in world.until_condition(namespace, "Failed=True/DeadlineExceeded")["message"]


def test_a_second_attempt(world, stand_in, namespace):
    world.apply(namespace, backoffLimit=1)
    job = world.job(namespace)
    first = world.pod_of(job)
    stand_in.fails(first, "Temporary", 75, "try again.")
    second = world.pod_of(job, besides=first["metadata"]["name"])
    stand_in.runs(second)
    assert "Temporary: try again." in world.until_condition(namespace, "Started=True/Running")["message"]
    world.report(namespace)
    stand_in.succeeds(second)
    world.until_condition(namespace, "Complete=True")
    assert (world.get(namespace) or {})["status"]["attempts"] == 2


def test_troubles_of_a_pod_show_while_it_has_them(world, stand_in, namespace):
    world.apply(namespace)
    pod = world.pod_of(world.job(namespace))
    stand_in.cannot_be_scheduled(pod, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    assert "Insufficient" in world.until_condition(namespace, "Started=False/Unschedulable")["message"]
    stand_in.cannot_be_scheduled(pod, 'persistentvolumeclaim "recordings" not found')
    world.until_condition(namespace, "Started=False/VolumeNotBound")
    stand_in.waits(pod, "ImagePullBackOff", 'Back-off pulling image "x"')
    world.until_condition(namespace, "Started=False/ImagePullFailed")
    stand_in.waits(pod, "CreateContainerConfigError", 'secret "keys" not found')
    world.until_condition(namespace, "Started=False/ContainerConfigError")
    stand_in.runs(pod)
    world.until_condition(namespace, "Started=True/Running")


def test_a_result_that_is_not_the_pods(world, stand_in, namespace):
    world.apply(namespace)
    pod = world.pod_of(world.job(namespace))
    world.report(namespace, {**RESULT, "text": "forged"})
    stand_in.succeeds(pod)
    world.until_condition(namespace, "Failed=True/ResultMismatch")


def test_a_result_by_reference(world, stand_in, namespace):
    world.apply(namespace)
    stand_in.succeeds(world.pod_of(world.job(namespace)), a_result_receipt(delivered=False))
    message = world.until_condition(namespace, "Complete=True/ResultByReference")["message"]
    assert "transcripts/x/y/y.json" in message
    status = (world.get(namespace) or {})["status"]
    assert status["result"] == {"text": " Hello.", "language": "en", "truncated": True}


def test_a_corrupt_cache_is_repaired_once(world, stand_in, namespace, repo):
    world.apply(namespace, cache="Shared", model=repo)
    first = world.download(repo)
    stand_in.ends(world.pod_of(first), 0, "{}")
    job = world.job(namespace)
    stand_in.fails(world.pod_of(job), "CorruptModelCache", 80, "model.safetensors is short.")
    world.until_condition(namespace, "ModelReady=False/Repairing")
    repair = until(lambda: (d := world.download(repo))["metadata"]["uid"] != first["metadata"]["uid"] and d, "a repair")
    stand_in.ends(world.pod_of(repair), 0, "{}")
    world.until_condition(namespace, "ModelReady=True/Repaired")
    again = until(lambda: (j := world.job(namespace))["metadata"]["uid"] != job["metadata"]["uid"] and j, "a new Job")
    stand_in.fails(world.pod_of(again), "CorruptModelCache", 80, "still short.")
    assert "repaired once already" in world.until_condition(namespace, "Failed=True/CorruptModelCache")["message"]
    assert world.download(repo)["metadata"]["uid"] == repair["metadata"]["uid"]
    assert (world.get(namespace) or {})["status"]["attempts"] == 2


def test_a_receipt_lost_with_its_pod(world, stand_in, namespace):
    world.apply(namespace)
    job = world.job(namespace)
    pod = world.pod_of(job)
    world.operator.kill()
    try:
        world.report(namespace)
        stand_in.succeeds(pod)
        until(lambda: world.job(namespace)["status"].get("succeeded"), "the Job is complete")
        world.api.delete(k8s.PODS, pod["metadata"]["name"], namespace)
    finally:
        world.operator.start()
    again = until(lambda: (j := world.job(namespace))["metadata"]["uid"] != job["metadata"]["uid"] and j, "a new Job")
    stand_in.succeeds(world.pod_of(again))
    world.until_condition(namespace, "Complete=True/Transcribed")


def test_deleting_takes_job_and_pod_along(world: World, stand_in: StandIn, namespace: str):
    world.apply(namespace)
    stand_in.runs(world.pod_of(world.job(namespace)))
    world.until_phase(namespace, "Running")
    world.delete(namespace)
    # The garbage collector looks for new kinds every 30 s, and the CRD may be that new here.
    until(lambda: not list(world.api.list(k8s.JOBS, namespace)), "the Job is gone", patience=60)
    # Without a kubelet a running pod stays for its grace period; that it is asked to go is what counts.
    until(
        lambda: all("deletionTimestamp" in pod["metadata"] for pod in world.api.list(k8s.PODS, namespace)),
        "the pod goes",
    )
    assert world.get(namespace) is None
