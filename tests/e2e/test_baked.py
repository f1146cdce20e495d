"""An image with models inside: no download, and no shared volume either."""

from __future__ import annotations

import json

import pytest

from tests import deployment
from tests.cluster import images
from tests.deployment import merge
from tests.kubectl import condition
from tests.materials import recordings

MODEL = "openai/whisper-tiny.en"
INLINE = 1500


@pytest.fixture(scope="module")
def baked_values(cluster, hub_here, chart_values):
    """The runner's image of this tree with one model inside, and no volume; the other tests' release comes back."""
    [image] = images.load_each(cluster, [images.build_baked([MODEL], hub_here.url)])
    repository, _, tag = image.rpartition(":")
    runner = {"image": {"repository": repository, "tag": tag}, "bakedModels": [MODEL]}
    return merge(chart_values, {"runner": runner, "inlineLimitBytes": INLINE})


@pytest.fixture(scope="module")
def without_a_volume(operator, baked_values, chart_values):
    notes = operator.install(merge(baked_values, {"cache": {"volume": {"hostPath": None}}}))
    yield notes
    operator.install(chart_values)


def test_the_models_are_roots_and_the_code_is_the_runners(without_a_volume, baked_values):
    image = baked_values["runner"]["image"]
    config = images.storage().inspect(f"localhost/{image['repository']}:{image['tag']}")["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert "TRANSCRIPTION_BAKED_MODELS=/opt/models" in config["Env"]
    assert config["Entrypoint"] == ["transcription-runner"]


def test_a_job_without_any_volume(without_a_volume, namespace, kubectl, hub_here):
    assert "there is no shared volume" in without_a_volume, "the chart's notes say so"
    hub_here.behaviour.forget()

    job = namespace.job("baked", recording=recordings.dashwood(), model="tiny.en")
    status = job.succeeded()

    assert "prudently" in status["result"]["text"]
    assert condition({"status": status}, "ModelReady")["reason"] == "Baked"
    assert "path" not in status["resultRef"]
    [pod] = kubectl.list("pods", namespace.name, "transcription.dev/job=baked")
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ["recordings"], "the recording's, and no other"
    assert {v["name"]: v["value"] for v in pod["spec"]["containers"][0]["env"] if "value" in v}["HF_HUB_OFFLINE"] == "1"
    assert not kubectl.get("pvc", "transcription-cache", namespace.name)
    assert not kubectl.get("pv", f"transcription-cache-{namespace.name}")
    assert hub_here.behaviour.sent("*") == 0
    assert not [j for j in kubectl.list("jobs", deployment.NAMESPACE) if "tiny" in j["metadata"]["name"]]


def test_another_model_cannot_be_had(without_a_volume, namespace):
    message = namespace.job("other", recording=recordings.dashwood(), model="base").failed("ModelNotAvailable")
    assert "runner.bakedModels" in message
    assert "cache: Fresh" in message


def test_a_result_too_large_for_its_resource(without_a_volume, namespace, s3_here):
    namespace.secret("writer", **s3_here.environment)
    output = {"url": f"s3://{s3_here.bucket}/baked", "credentialsSecret": {"name": "writer"}}
    lost = namespace.job("lost", recording=recordings.english_2min().path, model="tiny.en")
    kept = namespace.job("kept", recording=recordings.english_2min().path, model="tiny.en", output=output)

    assert "spec.output.url" in lost.failed("OutputFailed")
    assert lost.resource()["status"]["attempts"] == 1
    status = kept.succeeded()
    assert status["resultRef"]["url"] == f"s3://{s3_here.bucket}/baked/kept.json"
    whole = json.loads(s3_here.files().cat(f"{s3_here.bucket}/baked/kept.json"))
    assert whole["text"].startswith(status["result"]["text"])
