"""What goes wrong ends in a condition whose message a user can act on."""

from __future__ import annotations

import base64
import json

from tests.cluster import tools
from tests.e2e.world import durable_copy
from tests.kubectl import Kubectl, condition, eventually
from tests.materials import recordings


def test_a_missing_file(namespace):
    job = namespace.job("missing", audio="no-such-file.wav")

    message = job.failed("SourceMissing")
    assert "no-such-file.wav" in message
    assert len(namespace.kubectl.list("pods", namespace.name, "transcription.dev/job=missing")) == 1


def test_a_file_that_is_no_audio(namespace):
    message = namespace.job("text", recording=recordings.not_audio()).failed("BadAudio")
    assert "not_audio" in message


def test_a_recording_without_speech(namespace):
    status = namespace.job("hush", recording=recordings.silence()).succeeded()
    assert status["result"]["text"] == ""
    assert status["result"]["segments"] == []


def test_a_bucket_without_credentials(namespace, s3_here):
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    namespace.secret("nobody", **{**s3_here.environment, **wrong})
    job = namespace.job(
        "private", audio=f"s3://{s3_here.bucket}/interviews/english.mp3", credentialsSecret={"name": "nobody"}
    )
    assert "credentialsSecret" in job.failed("PermissionDenied")


def test_a_model_that_does_not_exist(namespace):
    job = namespace.job("typo", recording=recordings.dashwood(), model="openai/whisper-bass")
    message = job.failed("ModelNotAvailable")
    assert "openai/whisper-bass" in message
    assert not namespace.kubectl.list("jobs", namespace.name)


def test_a_secret_that_is_not_there_yet(namespace):
    job = namespace.job("early", recording=recordings.dashwood(), credentialsSecret={"name": "later"})
    waiting = job.until(
        lambda r: condition(r, "Started").get("reason") == "ContainerConfigError", "says what is missing"
    )
    assert "later" in condition(waiting, "Started")["message"]

    namespace.secret("later", UNUSED="1")
    job.succeeded()


def test_deleted_while_running(namespace, kubectl):
    recording = recordings.english_20min().path
    job = namespace.job("unwanted", recording=recording)
    job.running_pod()

    kubectl.delete("tj", "unwanted", namespace.name)

    def left():
        return kubectl.list("jobs", namespace.name) + kubectl.list("pods", namespace.name)

    eventually(left, lambda found: not found, what="its Job and pod go", seconds=90)


def test_the_operator_is_killed_while_a_job_runs(namespace, kubectl, operator):
    recording = recordings.english_2min().path
    job = namespace.job("survivor", recording=recording)
    pod = job.running_pod()

    kubectl.run("delete", "pods", "-n", "transcription-system", "-l", "app.kubernetes.io/component=operator",
                "--grace-period=0", "--force")  # fmt: skip

    job.succeeded()
    runners = kubectl.list("pods", namespace.name, "transcription.dev/job=survivor")
    assert [p["metadata"]["uid"] for p in runners] == [pod["metadata"]["uid"]], "the work was not begun anew"


class Unreachable:
    """Packets of one pod to the API server are refused on the node."""

    def __init__(self, cluster, pod):
        self.cluster, self.rule = cluster, ["INPUT", "-s", pod["status"]["podIP"], "-p", "tcp", "--dport", "6443"]

    def __enter__(self):
        self.cluster.run_in_node(["iptables", "-I", *self.rule, "-j", "REJECT", "--reject-with", "tcp-reset"])
        return self

    def __exit__(self, *exc):
        self.cluster.run_in_node(["iptables", "-D", *self.rule, "-j", "REJECT", "--reject-with", "tcp-reset"])


def transcript_is_there(volume, job):
    return (volume / "transcripts" / job.namespace / job.name / f"{job.name}.json").exists()


def test_the_api_is_away_for_a_moment_when_the_result_is_there(namespace, own_node, volume):
    recording = recordings.english_2min().path
    job = namespace.job("hiccup", recording=recording)
    with Unreachable(own_node, job.running_pod()):
        eventually(lambda: transcript_is_there(volume, job), bool, what="the durable copy is written", seconds=200)
        assert "result" not in job.resource()["status"]

    status = job.succeeded()
    assert condition({"status": status}, "Complete")["reason"] == "Transcribed"
    assert status["result"] == durable_copy(volume, job)


def test_the_api_stays_away_from_the_runner(namespace, own_node, volume):
    recording = recordings.english_2min().path
    job = namespace.job("island", recording=recording)
    with Unreachable(own_node, job.running_pod()):
        status = job.succeeded()

    complete = condition({"status": status}, "Complete")
    assert complete["reason"] == "ResultByReference"
    assert status["resultRef"]["path"] in complete["message"]
    assert status["result"]["truncated"] is True
    assert durable_copy(volume, job)["text"].startswith(status["result"]["text"])


def test_two_namespaces_share_the_cache(namespaces, hub_here, whisper_tiny_en):
    first, second = namespaces("-a"), namespaces("-b")
    hub_here.behaviour.forget()

    one = first.job("one", recording=recordings.dashwood(), model="tiny.en")
    two = second.job("two", recording=recordings.dashwood(), model="tiny.en")
    waiting = one.until(lambda r: condition(r, "ModelReady"), "says how it is with the model")
    assert condition(waiting, "ModelReady")["reason"] in ("Downloading", "Ready")

    assert one.succeeded()["result"]["text"] == two.succeeded()["result"]["text"]
    weights = hub_here.behaviour.sent("*whisper-tiny.en*/model.safetensors")
    assert weights == (whisper_tiny_en / "model.safetensors").stat().st_size, "one download, for both"


def test_a_runners_token_writes_nothing_but_its_own_result(namespace, kubectl, tmp_path):
    recording = recordings.english_20min().path
    mine, other = namespace.job("mine", recording=recording), namespace.job("mine-too", recording=recording)
    pod = mine.running_pod()["metadata"]["name"]
    other.until(lambda r: r["status"].get("jobName"), "has its Job")
    token = kubectl.run("create", "token", "transcription-runner", "-n", namespace.name,
                        "--bound-object-kind=Pod", f"--bound-object-name={pod}").strip()  # fmt: skip
    view = kubectl.run("config", "view", "--raw", "--minify", "-o", "json")
    server = json.loads(view)["clusters"][0]["cluster"]
    authority = tmp_path / "ca.crt"
    authority.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    empty = tmp_path / "kubeconfig"
    empty.write_text("")
    access = (f"--server={server['server']}", f"--token={token}", f"--certificate-authority={authority}")
    runner = Kubectl(tools.binary("kubectl"), empty, access)

    def patch(name, status):
        return ("patch", "tj", name, "-n", namespace.name, "--subresource=status", "--type=merge",
                "-p", json.dumps({"status": status}))  # fmt: skip

    runner.run(*patch("mine", {"progress": {"percent": 7}}))
    assert "own" in runner.refusal(*patch("mine-too", {"progress": {"percent": 7}}))
    assert "progress" in runner.refusal(*patch("mine", {"phase": "Succeeded"}))
    assert "forbidden" in runner.refusal("get", "secrets", "-n", namespace.name).lower()
    assert "forbidden" in runner.refusal("delete", "tj", "mine", "-n", namespace.name).lower()
