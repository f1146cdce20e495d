"""Suspension, queues, deletion, restarts, namespaces, time to live."""

from __future__ import annotations

import concurrent.futures

from tests.integration.operator.world import NAMESPACES, SYSTEM, StandIn, World, until
from transcription_operator import api as k8s
from transcription_operator import names


def test_suspend_and_resume(world: World, stand_in: StandIn, namespace: str):
    world.apply(namespace, suspend=True)
    world.until_phase(namespace, "Suspended")
    assert not list(world.api.list(k8s.JOBS, namespace))
    world.change(namespace, suspend=False)
    stand_in.runs(world.pod_of(world.job(namespace)))
    world.until_phase(namespace, "Running")
    assert world.condition(namespace, "Suspended")["reason"] == "Resumed"
    world.change(namespace, suspend=True)
    world.until_condition(namespace, "Suspended=True/Suspended")
    assert world.job(namespace)["spec"]["suspend"] is True
    world.change(namespace, suspend=False)
    world.until_condition(namespace, "Suspended=False/Resumed")
    pod = world.pod_of(world.job(namespace))
    world.report(namespace)
    stand_in.succeeds(pod)
    world.until_condition(namespace, "Complete=True")


def test_a_queue_keeps_what_it_has_changed(world: World, stand_in: StandIn, namespace: str):
    """The test plays Kueue: it admits by lifting the suspension and setting a node selector."""
    world.apply(namespace, queueName="gpus")
    job = world.job(namespace)
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][names.LABEL_QUEUE] == "gpus"
    assert "queue gpus" in world.until_condition(namespace, "Suspended=True/Suspended")["message"]
    admitted = {"spec": {"suspend": False, "template": {"spec": {"nodeSelector": {"pool": "gpu"}}}}}
    world.api.patch(k8s.JOBS, admitted, job["metadata"]["name"], namespace)
    world.until_condition(namespace, "Suspended=False/Resumed")
    pod = world.pod_of(world.job(namespace))
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    stand_in.runs(pod)
    world.until_phase(namespace, "Running")
    job = world.job(namespace)
    assert job["spec"]["suspend"] is False
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}


def test_a_job_deleted_by_hand_is_made_again(world: World, namespace: str):
    world.apply(namespace)
    job = world.job(namespace)
    world.until_condition(namespace, "Started=False/JobCreated")
    world.pod_of(job)
    until(lambda: (world.get(namespace) or {})["status"].get("attempts") == 1, "the attempt counts")
    world.api.delete(k8s.JOBS, job["metadata"]["name"], namespace)
    again = until(
        lambda: next(
            (j for j in world.api.list(k8s.JOBS, namespace) if j["metadata"]["uid"] != job["metadata"]["uid"]), None
        ),
        "a new Job",
    )
    assert again["metadata"]["annotations"][names.ANNOTATION_ATTEMPTS] == "1"
    until(lambda: "JobDeleted" in world.events(namespace), "the event")


def test_a_foreign_job_of_the_same_name(world: World, namespace: str):
    made = world.apply(namespace, suspend=True)
    name = names.runner_job_name("interview", made["metadata"]["uid"])
    world.until_phase(namespace, "Suspended")
    foreign = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}},
        },
    }
    world.api.create(k8s.JOBS, foreign, namespace)
    world.change(namespace, suspend=False)
    assert name in world.until_condition(namespace, "Started=False/JobConflict")["message"]
    world.api.delete(k8s.JOBS, name, namespace)
    until(lambda: world.job(namespace), "the operator's own Job", patience=30)


def test_killed_and_started_again_at_every_step(world: World, stand_in: StandIn, namespace: str, repo: str):
    world.apply(namespace, cache="Shared", model=repo)
    download = world.download(repo)
    world.operator.kill()
    stand_in.ends(world.pod_of(download), 0, "{}")
    world.operator.start()
    pod = world.pod_of(world.job(namespace))
    world.operator.kill()
    stand_in.runs(pod)
    world.report(namespace)
    stand_in.succeeds(pod)
    until(lambda: world.job(namespace)["status"].get("succeeded"), "the Job is complete")
    world.operator.start()
    world.until_condition(namespace, "Complete=True/Transcribed")
    assert world.download(repo)["metadata"]["uid"] == download["metadata"]["uid"]


def test_it_ends_when_asked(world: World):
    assert world.operator.probe("/healthz") == 200
    took = world.operator.stop()
    world.operator.start()
    assert took < 10


def test_two_namespaces_share_the_cache(world: World, stand_in: StandIn, repo: str):
    first, second = world.namespace("one"), world.namespace("two")
    for namespace in (first, second):
        world.apply(namespace, cache="Shared", model=repo)
    stand_in.ends(world.pod_of(world.download(repo)), 0, "{}")
    for namespace in (first, second):
        pod = world.pod_of(world.job(namespace))
        world.report(namespace)
        stand_in.succeeds(pod)
    paths = set()
    for namespace in (first, second):
        world.until_condition(namespace, "Complete=True")
        claim = until(
            lambda n=namespace: (
                (c := world.api.get(k8s.CLAIMS, names.CACHE_CLAIM, n)) and c["status"]["phase"] == "Bound" and c
            ),
            "the claim is bound",
        )
        volume = world.api.get(k8s.VOLUMES, claim["spec"]["volumeName"])
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        paths.add(volume["spec"]["hostPath"]["path"])
        binding = world.api.get(k8s.ROLE_BINDINGS, names.ROLE_BINDING, namespace)
        assert binding["roleRef"]["kind"] == "ClusterRole"
        world.api.delete(NAMESPACES, namespace)
    assert len(paths) == 1


def test_what_a_namespace_needs_comes_back(world: World, stand_in: StandIn, namespace: str):
    world.apply(namespace, "first")
    world.pod_of(world.job(namespace, "first"))
    world.api.delete(k8s.SERVICE_ACCOUNTS, names.SERVICE_ACCOUNT, namespace)
    world.api.delete(k8s.ROLE_BINDINGS, names.ROLE_BINDING, namespace)
    world.apply(namespace, "second")
    world.pod_of(world.job(namespace, "second"))
    assert world.api.get(k8s.SERVICE_ACCOUNTS, names.SERVICE_ACCOUNT, namespace)
    assert world.api.get(k8s.ROLE_BINDINGS, names.ROLE_BINDING, namespace)


def test_a_namespace_made_again_gets_its_volume_again(world: World, stand_in: StandIn):
    namespace = world.namespace("again")
    world.apply(namespace, queueName="gpus")  # suspended, so that no pod keeps the namespace from going
    world.job(namespace)
    volume = names.cache_volume_name(namespace)

    def phase() -> str:
        return ((world.api.get(k8s.VOLUMES, volume) or {}).get("status") or {}).get("phase") or ""

    until(lambda: phase() == "Bound", "the volume is bound", patience=30)
    world.api.delete(NAMESPACES, namespace)
    until(lambda: world.api.get(NAMESPACES, namespace) is None, "the namespace is gone", patience=60)
    until(lambda: phase() != "Bound", "the volume is released, or gone with its namespace")
    world.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    world.apply(namespace, queueName="gpus")
    world.job(namespace)
    until(lambda: phase() == "Bound", "the volume is bound again", patience=30)
    world.api.delete(NAMESPACES, namespace)


def test_a_namespace_on_its_way_out_is_left_in_peace(world: World):
    namespace = world.namespace("leaving")
    world.apply(namespace, suspend=True)
    world.until_phase(namespace, "Suspended")
    world.api.delete(NAMESPACES, namespace)
    until(lambda: world.api.get(NAMESPACES, namespace) is None, "the namespace is gone", patience=60)


def test_time_to_live(world: World, stand_in: StandIn, namespace: str):
    world.apply(namespace, "short", ttlSecondsAfterFinished=1)
    world.apply(namespace, "later", ttlSecondsAfterFinished=3600)
    world.apply(namespace, "never")
    for name in ("short", "later", "never"):
        stand_in.fails(world.pod_of(world.job(namespace, name)), "BadAudio", 65)
    until(lambda: world.get(namespace, "short") is None, "the short-lived one is gone")
    world.until_condition(namespace, "Failed=True", "later")
    world.until_condition(namespace, "Failed=True", "never")
    # It may be changed after the end, when the resource is in no watch any more.
    world.change(namespace, "later", ttlSecondsAfterFinished=1)
    until(lambda: world.get(namespace, "later") is None, "so is the one whose time was cut")
    assert world.get(namespace, "never")


def test_a_pod_security_of_restricted_takes_both_pods(world: World, namespace: str, repo: str):
    """The cluster enforces `restricted` everywhere; here with everything that a spec can add."""
    world.api.patch(
        NAMESPACES, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}, namespace
    )
    world.apply(
        namespace,
        audio={"volume": {"claimName": "recordings", "path": "a.mp3"}},
        output={"formats": ["json", "srt"], "volume": {"claimName": "out", "path": "x"}},
        credentialsSecret={"name": "s"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        nodeSelector={"pool": "gpu"},
        device="cuda",
    )
    pod = world.pod_of(world.job(namespace))
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": namespace},
        "spec": world.job(namespace)["spec"]["template"]["spec"],
    }
    world.api._request("POST", k8s.PODS.path(namespace), query={"dryRun": "All"}, body=body)
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    world.apply(namespace, "shared", cache="Shared", model=repo)
    download = world.download(repo)
    world.pod_of(download)
    body["metadata"]["namespace"] = SYSTEM
    body["spec"] = download["spec"]["template"]["spec"]
    world.api._request("POST", k8s.PODS.path(SYSTEM), query={"dryRun": "All"}, body=body)


def test_a_quota_shows(world: World, namespace: str):
    quota = k8s.Kind("api/v1", "resourcequotas")
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    world.api.create(quota, body, namespace)
    until(lambda: (world.api.get(quota, "none", namespace) or {}).get("status", {}).get("hard"), "the quota counts")
    world.apply(namespace)
    until(lambda: "exceeded quota" in world.condition(namespace, "Started").get("message", ""), "the quota's words")


def test_many_at_once(world: World, stand_in: StandIn, namespace: str):
    def live(name: str) -> None:
        world.apply(namespace, name)
        pod = world.pod_of(world.job(namespace, name))
        world.report(namespace, name=name)
        stand_in.succeeds(pod)
        world.until_condition(namespace, "Complete=True", name)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(live, [f"job-{number}" for number in range(20)]))
