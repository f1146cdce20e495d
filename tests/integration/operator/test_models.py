"""The life of a WhisperModel against a real API server; what its Jobs' pods say at their end is a stand-in's."""

from __future__ import annotations

import concurrent.futures
import json
from typing import Any

import pytest
from kubernetes import watch
from kubernetes.client import BatchV1Api
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.operator.world import SYSTEM, StandIn, World, an_error_receipt, until
from transcription_operator import api as k8s
from transcription_operator import names

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def a_report(**parts: Any) -> str:
    """A termination message of a model's Job, as docs/contracts.md has it."""
    return json.dumps(
        {
            "model": {"repo": "x/y", "revision": "main", "commit": COMMIT, "bytes": 290_000, "files": 9},
            "cache": {"bytes": 290_000, "freeBytes": 7_000_000, "totalBytes": 8_000_000},
            "transfer": {"bytesDownloaded": 280_000, "bytesWritten": 280_000, "seconds": 2.5, "retries": 0},
            **parts,
        }
    )  # fmt: skip


@pytest.fixture
def name(repo: str) -> str:
    return repo.partition("/")[2]


def samples(world: World) -> dict[str, float]:
    """The operator's metrics, as Prometheus reads them: `name{label=value}` and the value."""
    found = {}
    for family in text_string_to_metric_families(world.operator.read("/metrics")):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_a_hundred_jobs_one_download(world: World, stand_in: StandIn, namespace: str, repo: str):
    client = BatchV1Api(world.core.api_client)
    began = client.list_namespaced_job(SYSTEM).metadata.resource_version
    before = samples(world)
    jobs = [f"job-{number}" for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda job: world.apply(namespace, job, cache="Shared", model=repo), jobs))

    def waiting() -> int:
        found = world.api.list(k8s.TRANSCRIPTION_JOBS, namespace)
        return sum((item.get("status") or {}).get("phase") == "WaitingForModel" for item in found)

    until(lambda: waiting() == len(jobs), "all of them wait", patience=90)
    assert not list(world.api.list(k8s.JOBS, namespace)), "no runner before its model"
    stand_in.ends(world.pod_of(world.download(repo)), 0, a_report())

    def live(job: str) -> None:
        pod = world.pod_of(world.job(namespace, job, patience=120), patience=60)
        world.report(namespace, name=job)
        stand_in.succeeds(pod)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(live, jobs))

    def succeeded() -> int:
        found = world.api.list(k8s.TRANSCRIPTION_JOBS, namespace)
        return sum((item.get("status") or {}).get("phase") == "Succeeded" for item in found)

    until(lambda: succeeded() == len(jobs), "all of them succeed", patience=120)
    job_name = world.download(repo)["metadata"]["name"]
    stream = watch.Watch().stream(client.list_namespaced_job, SYSTEM, resource_version=began, timeout_seconds=3)
    made = [e["object"].metadata.uid for e in stream if e["type"] == "ADDED" and e["object"].metadata.name == job_name]
    assert len(made) == 1, "exactly one download Job was ever made"
    after = samples(world)
    missed = "transcription_model_requests_total{result=miss}"
    assert after[missed] - before[missed] == len(jobs)


def test_declared_ahead_it_is_there_before_the_first_job(
    world: World, stand_in: StandIn, namespace: str, repo: str, name: str
):
    world.apply_model(name, {"hub": {"repo": repo}})
    stand_in.ends(world.pod_of(world.download(repo)), 0, a_report())
    world.until_model(name, "Ready=True/Ready")
    status = world.model(name)["status"]
    assert status["commit"] == COMMIT
    assert status["shortCommit"] == COMMIT[:12]
    assert {"Downloading", "Ready", "Verified"} <= set(world.events("default", name))
    assert (status["bytes"], status["files"], status["phase"]) == (290_000, 9, "Ready")
    world.apply(namespace, "by-its-name", cache="Shared", model=name)
    world.apply(namespace, "by-its-repository", cache="Shared", model=repo)
    for job in ("by-its-name", "by-its-repository"):
        made = world.job(namespace, job)
        assert made["metadata"]["labels"][names.LABEL_MODEL] == name
        assert f"--model={repo}" in made["spec"]["template"]["spec"]["containers"][0]["args"]
    until(lambda: world.model(name)["status"].get("users") == 2, "its users are counted")
    assert world.model(name)["status"]["lastUsed"]


def test_an_adapter_is_a_second_model(world: World, stand_in: StandIn, namespace: str, repo: str, name: str):
    world.apply_model(f"{name}-lora", {"hub": {"repo": f"{repo}-lora"}})
    world.apply(namespace, cache="Shared", model=repo, adapter=f"{name}-lora")
    stand_in.ends(world.pod_of(world.download(repo)), 0, a_report())
    until(
        lambda: f"{name}-lora" in world.condition(namespace, "ModelReady").get("message", ""),
        "only the adapter is missing",
    )
    assert not list(world.api.list(k8s.JOBS, namespace)), "no runner before its adapter"
    stand_in.ends(world.pod_of(world.download(f"{repo}-lora")), 0, a_report())
    made = world.job(namespace)
    assert made["metadata"]["labels"][names.LABEL_ADAPTER] == f"{name}-lora"
    assert f"--adapter={repo}-lora" in made["spec"]["template"]["spec"]["containers"][0]["args"]
    until(lambda: world.model(f"{name}-lora")["status"].get("users") == 1, "its user is counted")
    world.delete_model(f"{name}-lora")
    assert f"{namespace}/interview" in world.until_model(f"{name}-lora", "Ready=False/InUse")["message"]


def test_a_name_that_nobody_knows_waits_until_somebody_applies_it(
    world: World, stand_in: StandIn, namespace: str, repo: str
):
    world.apply(namespace, cache="Shared", model="large-v33")
    waiting = world.until_condition(namespace, "ModelReady=False/ModelNotFound")
    assert "Did you mean 'large-v3'?" in waiting["message"]
    world.apply_model("large-v33", {"hub": {"repo": repo}})
    stand_in.ends(world.pod_of(world.download(repo)), 0, a_report())
    world.until_condition(namespace, "ModelReady=True/Ready")
    world.delete(namespace)
    world.delete_model("large-v33")


def test_what_policy_forbids(world: World, namespace: str, repo: str):
    with world.operator.set(models={"create": True, "allow": ["openai/*"]}):
        world.apply(namespace, cache="Shared", model=repo)
        failed = world.until_condition(namespace, "Failed=True/ModelNotAllowed")
        assert "models.allow: openai/*" in failed["message"]
        assert world.api.get(k8s.WHISPER_MODELS, names.model_resource_name(repo, "main")) is None


def test_a_failure_for_good_is_tried_again_when_somebody_says_so(world: World, stand_in: StandIn, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}})
    first = world.download(repo)
    words = json.loads(an_error_receipt("PermissionDenied", 77, "The repository is gated.", "Ask for access."))
    words["error"]["reason"] = "GatedRepository"
    stand_in.ends(world.pod_of(first), 77, json.dumps(words))
    failed = world.until_model(name, "Ready=False/GatedRepository")
    assert "The repository is gated. Ask for access." in failed["message"]
    assert world.model(name)["status"]["phase"] == "Failed"
    world.annotate_model(name, {names.ANNOTATION_RETRY: "1"})
    again = world.another_download(repo, first)
    stand_in.ends(world.pod_of(again), 0, a_report())
    world.until_model(name, "Ready=True/Ready")


def test_a_check_on_demand_and_the_repair_that_follows(world: World, stand_in: StandIn, repo: str, name: str):
    before = samples(world)
    world.apply_model(name, {"hub": {"repo": repo}})
    first = world.download(repo)
    stand_in.ends(world.pod_of(first), 0, a_report())
    world.until_model(name, "Ready=True/Ready")
    world.annotate_model(name, {names.ANNOTATION_VERIFY: "monday"})
    check = world.another_download(repo, first)
    assert check["spec"]["template"]["spec"]["containers"][0]["args"][:3] == ["models", "verify", repo]
    stand_in.fails(world.pod_of(check), "CorruptModelCache", 80, "model.safetensors: a bit is flipped.")
    world.until_model(name, "Verified=False/CorruptModelCache")
    repair = world.another_download(repo, check)
    world.until_model(name, "Ready=False/Repairing")
    assert repair["spec"]["template"]["spec"]["containers"][0]["args"][:3] == ["models", "download", repo]
    stand_in.ends(world.pod_of(repair), 0, a_report())
    world.until_model(name, "Ready=True/Repaired")
    assert world.model(name)["status"]["repairs"] == 1
    wanted = {
        "transcription_model_verify_failures_total{}": 1,
        "transcription_model_downloads_total{reason=,result=success}": 2,
        "transcription_model_download_seconds_count{}": 2,
        "transcription_model_download_bytes_total{}": 560_000,
    }

    def counted() -> dict[str, float]:
        after = samples(world)
        return {metric: after.get(metric, 0) - before.get(metric, 0) for metric in wanted}

    # What is counted is counted after the status that tells it is written.
    until(lambda: counted() == wanted, f"{wanted} are counted")
    after = samples(world)
    assert after["transcription_model_cache_bytes{}"] == 290_000
    assert after["transcription_model_cache_free_bytes{}"] == 7_000_000
    assert after["transcription_models{phase=Ready}"] >= 1
    assert after[f"transcription_model_users{{model={name}}}"] == 0


def test_deleted_while_it_is_used(world: World, stand_in: StandIn, namespace: str, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}})
    first = world.download(repo)
    stand_in.ends(world.pod_of(first), 0, a_report())
    world.apply(namespace, cache="Shared", model=name)
    pod = world.pod_of(world.job(namespace))
    world.delete_model(name)
    assert f"{namespace}/interview" in world.until_model(name, "Ready=False/InUse")["message"]
    assert world.model(name)["status"]["phase"] == "Deleting"
    world.report(namespace)
    stand_in.succeeds(pod)
    world.until_condition(namespace, "Complete=True")
    removal = world.another_download(repo, first)
    assert removal["spec"]["template"]["spec"]["containers"][0]["args"][:3] == ["models", "remove", repo]
    stand_in.ends(world.pod_of(removal), 0, json.dumps({"removed": {"bytes": 290_000, "files": 9}}))
    until(lambda: world.api.get(k8s.WHISPER_MODELS, name) is None, "it is gone")
    until(lambda: world.api.get(k8s.JOBS, removal["metadata"]["name"], SYSTEM) is None, "and so is its Job")


def test_two_of_the_same_source(world: World, stand_in: StandIn, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}})
    first = world.download(repo)
    world.apply_model(f"{name}-too", {"hub": {"repo": repo}})
    stand_in.ends(world.pod_of(first), 0, a_report())
    for one in (name, f"{name}-too"):
        world.until_model(one, "Ready=True/Ready")
    assert world.download(repo)["metadata"]["uid"] == first["metadata"]["uid"]
    world.delete_model(name)
    until(lambda: world.api.get(k8s.WHISPER_MODELS, name) is None, "the first goes, and leaves the files")
    assert world.download(repo)["metadata"]["uid"] == first["metadata"]["uid"]
    world.delete_model(f"{name}-too")
    removal = world.another_download(repo, first)
    assert removal["spec"]["template"]["spec"]["containers"][0]["args"][1] == "remove"
    stand_in.ends(world.pod_of(removal), 0, "{}")
    until(lambda: world.api.get(k8s.WHISPER_MODELS, f"{name}-too") is None, "the second takes them along")


def test_deleted_without_its_volume(world: World, stand_in: StandIn, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}})
    pod = world.pod_of(world.download(repo))
    world.delete_model(name)
    removal = world.another_download(repo, world.download(repo))
    stand_in.cannot_be_scheduled(world.pod_of(removal, besides=pod["metadata"]["name"]), "no persistent volume")
    until(
        lambda: names.ANNOTATION_KEEP_FILES in world.model_condition(name, "Ready").get("message", ""),
        "it says how to give up",
    )
    world.annotate_model(name, {names.ANNOTATION_KEEP_FILES: "true"})
    until(lambda: world.api.get(k8s.WHISPER_MODELS, name) is None, "it is gone")


def test_unused_for_long(world: World, stand_in: StandIn, namespace: str, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}}, retention={"unusedDays": 30})
    first = world.download(repo)
    stand_in.ends(world.pod_of(first), 0, a_report())
    world.until_model(name, "Ready=True/Ready")
    world.long_ago(name)
    world.until_model(name, "EvictionDue=True/DryRun")
    assert world.download(repo)["metadata"]["uid"] == first["metadata"]["uid"], "nothing is done in a dry run"
    with world.operator.set(retention={"unusedDays": 0, "dryRun": False}):
        world.until_model(name, "Ready=False/Evicting")
        world.long_ago(name)
        removal = world.another_download(repo, first)
        assert removal["spec"]["template"]["spec"]["containers"][0]["args"][1] == "remove"
        stand_in.ends(world.pod_of(removal), 0, "{}")
        world.until_model(name, "Ready=False/Evicted")
        world.apply(namespace, cache="Shared", model=name)
        again = world.another_download(repo, removal)
        assert again["spec"]["template"]["spec"]["containers"][0]["args"][1] == "download"
        stand_in.ends(world.pod_of(again), 0, a_report())
        world.until_condition(namespace, "ModelReady=True/Ready")


def test_a_folder_of_the_volume(world: World, stand_in: StandIn, namespace: str, name: str):
    world.apply_model(name, {"volume": {"path": f"own/{name}"}})
    check = world.download(f"volume/own/{name}")
    arguments = check["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:3] == ["models", "verify", f"/cache/models/own/{name}"]
    stand_in.ends(world.pod_of(check), 0, a_report(verified=True))
    world.until_model(name, "Ready=True/Ready")
    world.apply(namespace, cache="Shared", model=name)
    arguments = world.job(namespace)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--model=/models/own/{name}" in arguments
    world.delete(namespace)
    world.delete_model(name)
    until(lambda: world.api.get(k8s.WHISPER_MODELS, name) is None, "it goes and leaves the folder", patience=40)


def test_a_model_from_an_object_store(world: World, stand_in: StandIn, namespace: str, name: str):
    world.apply_model(name, {"url": "s3://bucket/whisper"}, credentialsSecret={"name": "keys"})
    download = world.download(f"whispermodel/{name}")
    container = download["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][2:4] == ["s3://bucket/whisper", f"--name=whispermodel/{name}"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    stand_in.ends(world.pod_of(download), 0, a_report())
    world.until_model(name, "Ready=True/Ready")
    world.apply(namespace, cache="Shared", model=name)
    assert f"--model=whispermodel/{name}" in world.job(namespace)["spec"]["template"]["spec"]["containers"][0]["args"]


def test_progress_shows_where_people_look(world: World, namespace: str, repo: str):
    world.apply(namespace, cache="Shared", model=repo)
    name = names.model_resource_name(repo, "main")
    pod = world.pod_of(world.download(repo))
    progress = {"percent": 42, "downloadedBytes": 420_000_000, "totalBytes": 10**9, "bytesPerSecond": 5e7}
    world.report_download(name, pod, {**progress, "etaSeconds": 12})
    message = until(
        lambda: (m := world.condition(namespace, "ModelReady").get("message", "")) and "40 %" in m and m,
        "the job tells how far its model is",
    )
    assert "40 % of 1.0 GB, 50 MB/s, 12 s left." in message
    assert world.model(name)["status"]["progress"]["percent"] == 42
    world.report_download(name, pod, {**progress, "reason": "VolumeSlow"})
    assert "throughput" in world.until_model(name, "Ready=False/VolumeSlow")["message"]
    until(
        lambda: "VolumeSlow: " in world.condition(namespace, "ModelReady").get("message", ""),
        "the job tells why it takes long",
    )
    world.report_download(name, pod, progress)
    world.until_model(name, "Ready=False/Downloading")


def test_a_downloads_token_writes_progress_and_nothing_else(world: World, repo: str, name: str):
    world.apply_model(name, {"hub": {"repo": repo}})
    world.apply_model(f"{name}-other", {"hub": {"repo": f"{repo}-other"}})
    pod = world.pod_of(world.download(repo))
    world.download(f"{repo}-other")
    world.report_download(name, pod, {"percent": 1})
    refusal = world.refused_report(name, pod, {"phase": "Ready"})
    assert "may change status.progress alone" in refusal
    assert "report its own progress alone" in world.refused_report(f"{name}-other", pod, {"progress": {"percent": 9}})
    for one in (name, f"{name}-other"):
        world.delete_model(one)
