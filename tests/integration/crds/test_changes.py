"""What may change in a spec: everything before the work starts, and suspend and the time to live afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.integration.crds.client import CRD, JOBS, Refused, job
from tests.integration.crds.test_manifests import ACCEPTED

GOOD: dict[str, Any] = {
    "audio": {"url": "s3://bucket/interview.mp3"},
    "model": "base",
    "mode": "sequential",
    "languages": ["de", "fr"],
    "decoding": {"beamSize": 5},
    "resources": {"limits": {"memory": "4Gi", "nvidia.com/gpu": 1}},
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"a": "b"},
}
CHANGES: dict[str, Any] = {
    "audio": {"url": "s3://bucket/other.mp3"},
    "model": "small",
    "adapter": "owner/base-lora",
    "language": "fr",
    "languages": ["de"],
    "multilingual": False,
    "task": "translate",
    "initialPrompt": "A prompt.",
    "carryInitialPrompt": False,
    "hotwords": "Digium, Asterisk",
    "clipTimestamps": "0,10",
    "wordTimestamps": True,
    "mode": "batched",
    "decoding": {"beamSize": 6},
    "vad": {"enabled": False},
    "device": "cuda",
    "engine": "openai-whisper",
    "cache": "Fresh",
    "output": {"formats": ["srt"]},
    "credentialsSecret": {"name": "keys"},
    "resources": {"limits": {"memory": "8Gi"}},
    "nodeSelector": {"a": "c"},
    "tolerations": [],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "queueName": "queue",
    "backoffLimit": 1,
    "activeDeadlineSeconds": 60,
}
FREE: dict[str, Any] = {"suspend": True, "ttlSecondsAfterFinished": 60}


def test_every_field_of_the_spec_is_spoken_of_here(api):
    schema = api.get(CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert set(schema["properties"]["spec"]["properties"]) == set(CHANGES) | set(FREE)


def made(api, namespace: str, name: str, status: dict[str, Any] | None) -> str:
    path = JOBS.format(namespace=namespace)
    api.create(path, job(name, GOOD))
    if status:
        api.merge(f"{path}/{name}/status", {"status": status})
    return f"{path}/{name}"


@pytest.fixture(scope="module")
def started(api, namespace) -> str:
    return made(api, namespace, "started", {"jobName": "tj-started-0a1b2c3d", "phase": "Running"})


@pytest.fixture(scope="module")
def waiting(api, namespace) -> str:
    return made(api, namespace, "waiting", {"phase": "WaitingForModel", "observedGeneration": 1})


@pytest.fixture(scope="module")
def failed_early(api, namespace) -> str:
    return made(api, namespace, "failed", {"phase": "Failed", "completionTime": "2026-11-22T12:00:00Z"})


@pytest.mark.parametrize("field", CHANGES)
def test_refused_once_the_work_has_started(api, started, field):
    with pytest.raises(Refused) as refused:
        api.merge(started, {"spec": {field: CHANGES[field]}}, dryRun="All")
    says = [
        f"spec.{field}: Forbidden: {field} cannot change once the work has started; delete this TranscriptionJob "
        "and create it anew (suspend and ttlSecondsAfterFinished may change)"
    ]
    others = ["spec.languages: "] if field == "language" else []  # the one excludes the other anyway
    assert set(says) <= set(refused.value.causes)
    assert all(cause in says or cause.startswith(tuple(others)) for cause in refused.value.causes)


@pytest.mark.parametrize("field", ["languages", "decoding", "resources", "nodeSelector", "tolerations"])
def test_taking_away_is_a_change_too(api, started, field):
    with pytest.raises(Refused, match=f"{field} cannot change once the work has started"):
        api.merge(started, {"spec": {field: None}}, dryRun="All")


@pytest.mark.parametrize("field", FREE)
def test_free_after_the_start(api, started, field):
    spec = api.merge(started, {"spec": {field: FREE[field]}}, dryRun="All")["spec"]
    assert spec[field] == FREE[field]


def test_refused_after_an_end_without_a_start(api, failed_early):
    with pytest.raises(Refused, match="model cannot change once the work has started"):
        api.merge(failed_early, {"spec": {"model": "small"}}, dryRun="All")


@pytest.mark.parametrize("field", [f for f in CHANGES if f != "language"])
def test_free_before_the_start(api, waiting, field):
    spec = api.merge(waiting, {"spec": {field: CHANGES[field]}}, dryRun="All")["spec"]
    assert spec[field] != GOOD.get(field)


def test_the_same_manifest_again_is_no_change(api, namespace, kubectl):
    """kubectl apply of an unchanged file goes through, whatever is in it."""
    everything = next(c["spec"] for c in ACCEPTED if c["why"] == "everything of the scheduling")
    manifest = yaml.safe_dump(job("again", everything))
    kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    path = f"{JOBS.format(namespace=namespace)}/again"
    api.merge(f"{path}/status", {"status": {"jobName": "tj-again-0a1b2c3d"}})
    assert "unchanged" in kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    api.apply(path, job("again", everything), "someone")


def test_labels_may_change_at_any_time(api, started):
    api.merge(started, {"metadata": {"labels": {"transcription.dev/finished": "true"}}}, dryRun="All")
