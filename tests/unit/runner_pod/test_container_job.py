"""The predecessor's ways in: its wrapper's call, and its container job against real S3 and moto's table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.materials.servers import S3
from tests.unit.runner_pod.conftest import RUNNER, Ran, command, hub_cache
from transcription_runner import container_job
from transcription_runner.errors import PermissionDenied, RunnerError, Usage

COMMIT = "c" * 40


def put_model(root: Path, model: Path, repo: str = "openai/whisper-large-v3") -> None:
    """A model as huggingface_hub leaves it."""
    folder = root / ("models--" + repo.replace("/", "--"))
    shutil.copytree(model, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)


def is_whispers(result: dict[str, Any], language: str) -> None:
    assert set(result) == {"text", "segments", "language"}
    assert result["language"] == language
    for segment in result["segments"]:
        assert set(segment) == {
            *("id", "seek", "start", "end", "text", "tokens"),
            *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
        }


# ---- The wrapper's call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "hub"], ids=["the predecessor's tree", "huggingface_hub's"])
def test_the_wrappers_call(tmp_path, tiny_random_whisper, dashwood, place):
    home = tmp_path / "efs"
    put_model(home / place, tiny_random_whisper)
    words = ["-", "--model", "turbo", "--language", "en", "--initial_prompt", "Gaming stream with viewer interactions"]
    words += ["--clip_timestamps", "0,1,2,3", "--device", "cuda", "--output_format", "json", "--output_dir"]
    words += [str(tmp_path), "--temperature_increment_on_fallback", "None", "--beam_size", "None"]
    ran = command(*words, stdin=dashwood.read_bytes(), HF_HOME=str(home), HF_HUB_OFFLINE="1")
    assert ran.code == 0, ran.err
    assert str(home / place / "models--openai--whisper-large-v3") in ran.err
    assert "CUDA" in ran.err or "device cuda" in ran.err  # without a GPU it falls back, with a warning
    is_whispers(json.loads((tmp_path / "-.json").read_bytes()), "en")


def test_the_variable_device(tmp_path, tiny_random_whisper, dashwood):
    put_model(tmp_path / "efs", tiny_random_whisper)
    words = ["-", "--language", "en", "--clip_timestamps", "0,1", "-f", "json", "-o", tmp_path, "--beam_size", "None"]
    words += ["--temperature_increment_on_fallback", "None"]
    environ = {"HF_HOME": str(tmp_path / "efs"), "HF_HUB_OFFLINE": "1", "DEVICE": "cpu"}
    ran = command(*words, stdin=dashwood.read_bytes(), **environ)
    assert ran.code == 0, ran.err
    assert "device cpu" in ran.err
    assert "CUDA" not in ran.err


# ---- When the command is a container job ----------------------------------------------------------------------------

BUCKET = {"INPUT_BUCKET": "b"}


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        (["key", "a.wav"], BUCKET, True),
        (["key"], BUCKET, True),  # to be told what is missing
        (["key", "a.wav", "--model", "base"], BUCKET, True),
        (["key", "a.wav"], {}, False),
        (["key", "a.wav"], {"INPUT_BUCKET": ""}, False),
        (["key", "a.wav"], {**BUCKET, "TRANSCRIPTION_JOB": "team-a/interview"}, False),
        (["-", "--model", "base"], BUCKET, False),
        (["--model", "base", "a.wav"], BUCKET, False),
        (["models", "list"], BUCKET, False),
        (["prepare-folder", "/x"], BUCKET, False),
        (["key", "--help"], BUCKET, False),
        ([], BUCKET, False),
    ],
)
def test_when_it_is_one(words, environ, expected):
    assert container_job.wanted(words, environ) is expected


def test_what_it_asks_for():
    call = container_job.understand(["k/1", "a b.wav", "- a prompt", "fr", "--model", "base"], BUCKET)
    assert (call.source, call.result, call.table) == ("s3://b/a b.wav", "s3://b/k/1", None)
    assert call.words == ["s3://b/a b.wav", "--initial_prompt=- a prompt", "--language=fr", "--model", "base"]
    assert container_job.understand(["k", "a.wav", "", ""], BUCKET).words == ["s3://b/a.wav"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["k"], "1 words"),
        (["k", "a", "p", "en", "more"], "5 words"),
        (["k", ""], "must not be empty"),
        (["same", "same"], "the recording's place"),
        (["k", "a", "--output_dir", "x"], "under KEY"),
        (["k", "a", "--output=x"], "under KEY"),
    ],
)
def test_what_it_refuses(words, says):
    with pytest.raises(Usage, match=says) as caught:
        container_job.understand(words, BUCKET)
    assert "INPUT_BUCKET is set" in (caught.value.hint or "")


# ---- With a bucket and a table --------------------------------------------------------------------------------------


@dataclass
class Tables:
    """DynamoDB as moto serves it."""

    url: str
    client: Any

    def item(self, key: str, table: str = "jobs", name: str = "job_key") -> dict[str, Any]:
        item = self.client.get_item(TableName=table, Key={name: {"S": key}}).get("Item", {})
        return {attribute: next(iter(value.values())) for attribute, value in item.items()}


@pytest.fixture(scope="module")
def moto() -> Iterator[Tables]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="materials",
        aws_secret_access_key="materials-secret",
    )
    for table, keys in (("jobs", [("job_key", "S", "HASH")]), ("sorted", [("a", "S", "HASH"), ("b", "N", "RANGE")])):
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": name, "KeyType": role} for name, _, role in keys],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind, _ in keys],
        )
    yield Tables(url, client)
    server.stop()


@pytest.fixture
def job(run: Callable[..., Ran], s3: S3, moto: Tables) -> Callable[..., Ran]:
    """The container's call, in this process, with a bucket and a table."""

    def call(*words: str, **environ: str) -> Ran:
        places = {"INPUT_BUCKET": s3.bucket, "DYNAMODB_TABLE": "jobs", "AWS_ENDPOINT_URL_DYNAMODB": moto.url}
        return run(*words, **(s3.environment | places | environ))

    return call


def test_a_small_model_from_bucket_to_bucket(s3, moto, tmp_path, tiny_random_whisper):
    """All of it, in a process of its own: the predecessor's variables and words, and nothing else."""
    put_model(tmp_path / "efs", tiny_random_whisper)
    environ = s3.environment | {"INPUT_BUCKET": s3.bucket, "DYNAMODB_TABLE": "jobs", "HF_HOME": str(tmp_path / "efs")}
    environ |= {"AWS_ENDPOINT_URL_DYNAMODB": moto.url, "HF_HUB_OFFLINE": "1"}
    moto.client.put_item(TableName="jobs", Item={"job_key": {"S": "real"}, "owner": {"S": "team-a"}})
    options = ["--clip_timestamps", "0,2", "--beam_size", "None", "--temperature_increment_on_fallback", "None"]
    ran = command("real", "dashwood.wav", "initial prompt", "en", *options, **environ)
    assert ran.code == 0, ran.err
    is_whispers(json.loads(s3.read("real")), "en")
    item = moto.item("real")
    assert (item["state"], item["owner"]) == ("COMPLETED", "team-a")
    assert item["audio"] == f"s3://{s3.bucket}/dashwood.wav"
    assert item["result"] == f"s3://{s3.bucket}/real"
    assert f"s3://{s3.bucket}/real" in item["message"]
    assert item["language"] == "en"
    assert float(item["duration"]) > 0
    assert item["started_at"] <= item["finished_at"] == item["updated_at"]


def test_prompt_and_language_reach_whisper_and_the_table_sees_the_work(job, s3, moto, listener, monkeypatch, dashwood):
    seen = []
    transcribe = listener.transcribe
    monkeypatch.setattr(
        listener, "transcribe", lambda *a, **k: (seen.append(moto.item("folder/k")), transcribe(*a, **k))[1]
    )
    ran = job("folder/k", "dashwood.wav", "Dashwood, Norland", "fr")
    assert ran.code == 0, ran.err
    assert [item["state"] for item in seen] == ["PROCESSING"]
    assert "finished_at" not in seen[0]
    assert listener.heard == [dashwood.read_bytes()]
    assert (listener.options[0].initial_prompt, listener.options[0].language) == ("Dashwood, Norland", "fr")
    assert json.loads(s3.read("folder/k")) == listener.result
    assert ran.receipt is not None
    assert ran.receipt["result"]["url"] == f"s3://{s3.bucket}/folder/k"
    assert ran.receipt["result"]["path"] is None


def test_one_address_for_both_as_localstack_has_it(run, moto, listener):
    """The predecessor's own example: no region, and one AWS_ENDPOINT_URL (moto's, for S3 as well)."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    store = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1", **keys)
    store.create_bucket(Bucket="test-bucket")
    store.put_object(Bucket="test-bucket", Key="odd #1 50%.wav", Body=b"sound")
    environ = {name.upper(): value for name, value in keys.items()} | {"AWS_ENDPOINT_URL": moto.url}
    environ |= {"INPUT_BUCKET": "test-bucket", "DYNAMODB_TABLE": "jobs"}
    ran = run("test-key", "odd #1 50%.wav", "initial prompt", "en", **environ)
    assert ran.code == 0, ran.err
    assert listener.heard == [b"sound"]
    assert json.load(store.get_object(Bucket="test-bucket", Key="test-key")["Body"]) == listener.result
    assert moto.item("test-key")["state"] == "COMPLETED"


def test_no_table_is_named(job, s3, moto, listener):
    ran = job("untold", "dashwood.wav", DYNAMODB_TABLE="")
    assert ran.code == 0, ran.err
    assert json.loads(s3.read("untold")) == listener.result
    assert listener.options[0].language is None
    assert moto.item("untold") == {}


def test_a_missing_object(job, moto, listener):
    ran = job("gone", "gone.wav")
    assert ran.code == 66
    item = moto.item("gone")
    assert (item["state"], item["error_class"], item["exit_code"]) == ("FAILED", "SourceMissing", "66")
    assert "gone.wav" in item["message"]
    assert item["finished_at"] == item["updated_at"]
    assert ran.receipt is not None
    assert ran.receipt["error"]["class"] == "SourceMissing"


def test_a_second_attempt_forgets_the_first(job, moto, listener):
    assert job("twice", "gone.wav").code == 66
    assert job("twice", "dashwood.wav").code == 0
    item = moto.item("twice")
    assert item["state"] == "COMPLETED"
    assert not {"error_class", "exit_code"} & set(item)


@pytest.mark.parametrize(
    ("words", "code"), [(["", "xx"], 64), (["--clip_timestamps", "a"], 64), (["--no_such_option"], 64)]
)
def test_what_cannot_be_understood_fails_in_the_table_too(job, moto, listener, words, code):
    key = "odd-" + "-".join(words)
    assert job(key, "dashwood.wav", *words).code == code
    assert moto.item(key)["state"] == "FAILED"


def test_a_defect_is_told(job, moto, listener):
    listener.error = ZeroDivisionError("oh")
    assert job("defect", "dashwood.wav").code == 70
    item = moto.item("defect")
    assert (item["state"], item["error_class"]) == ("FAILED", "Internal")
    assert "ZeroDivisionError" in item["message"]


@pytest.mark.parametrize(("table", "says"), [("no-such-table", "there is no such table"), ("sorted", "a (S), b (N)")])
def test_a_wrong_table_is_found_before_any_work(job, s3, listener, table, says):
    ran = job("wrong-table", "dashwood.wav", DYNAMODB_TABLE=table)
    assert ran.code == 64
    assert f"DYNAMODB_TABLE={table}" in ran.err
    assert says in ran.err
    assert listener.loaded == 0
    with pytest.raises(FileNotFoundError):
        s3.read("wrong-table")


def test_nobody_answers_for_the_table(job, listener, tmp_path):
    ran = job("k", "dashwood.wav", AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    assert ran.code == 74
    assert "could not be reached" in ran.err


@pytest.mark.parametrize(
    "environ", [{"AWS_REGION": "eu-central-1"}, {"AWS_DEFAULT_REGION": "eu-west-1"}], ids=["ECS's", "boto3's"]
)
def test_the_region(moto, monkeypatch, environ):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.url)
    with pytest.raises(Usage, match="no such table"):  # moto's tables are those of one region
        container_job.Table("jobs", environ)
    assert container_job.Table("jobs", {"AWS_ENDPOINT_URL": moto.url})


def test_no_region_and_no_credentials(moto, monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Usage, match="region") as caught:
        container_job.Table("jobs", {})
    assert "AWS_REGION" in (caught.value.hint or "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.url)
    with pytest.raises(PermissionDenied) as refused:
        container_job.Table("jobs", {"AWS_REGION": "us-east-1"})
    assert "dynamodb:UpdateItem" in (refused.value.hint or "")


def test_a_table_that_fails_at_the_end_does_not_hide_the_first_error(job, listener, monkeypatch):
    def broken(*_: object) -> None:
        raise RunnerError("the table is gone")

    monkeypatch.setattr(container_job.Table, "failed", broken)
    ran = job("k", "gone.wav")
    assert ran.code == 66
    assert "the table is gone" in ran.err


def test_its_end_is_told(s3, moto, tmp_path):
    """SIGTERM, as Batch and `docker stop` send it, while the work goes on."""
    environ = {**os.environ, **s3.environment, "INPUT_BUCKET": s3.bucket, "DYNAMODB_TABLE": "jobs"}
    environ |= {"AWS_ENDPOINT_URL_DYNAMODB": moto.url}
    script = (
        "import sys, time; from transcription_runner import cli, job; "
        "job._engine = lambda *_: time.sleep(60); sys.exit(cli.main())"
    )
    hub_cache(tmp_path / "efs", "openai/whisper-large-v3")
    environ |= {"HF_HOME": str(tmp_path / "efs"), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen([RUNNER[0], "-c", script, "stopped", "dashwood.wav"], env=environ) as process:
        deadline = time.monotonic() + 60
        while moto.item("stopped").get("state") != "PROCESSING" and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    item = moto.item("stopped")
    assert (item["state"], item["error_class"]) == ("FAILED", "Temporary")
