"""The status: whisper's own JSON goes in and comes back, and both writers' parts stay apart."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.crds.client import JOBS, Refused, job

RESULT: dict[str, Any] = {
    "text": " Bonjour à tous.",
    "language": "fr",
    "segments": [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 2.5,
            "text": " Bonjour à tous.",
            "tokens": [50364, 25431, 1531, 8067, 13, 50489],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 0.8,
            "no_speech_prob": 0.01,
            "words": [{"word": " Bonjour", "start": 0.0, "end": 0.6, "probability": 0.99, "of_a_later_version": 1}],
            "of_a_later_version": {"kept": True},
        }
    ],
    "of_a_later_version": [1, 2],
}
OPERATORS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Succeeded",
    "jobName": "tj-interview-0a1b2c3d",
    "startTime": "2026-11-22T12:00:00Z",
    "completionTime": "2026-11-22T12:00:09Z",
    "attempts": 1,
    "language": "fr",
    "duration": 2.5,
    "resultRef": {"path": "transcripts/a/interview/interview.json", "url": None, "sha256": "0" * 64, "bytes": 700},
    "conditions": [
        {
            "type": "Complete",
            "status": "True",
            "reason": "Transcribed",
            "message": "2.5 seconds of French, 3 words.",
            "lastTransitionTime": "2026-11-22T12:00:09Z",
            "observedGeneration": 1,
        },
        {
            "type": "Started",
            "status": "True",
            "reason": "Running",
            "message": "The pod runs.",
            "lastTransitionTime": "2026-11-22T12:00:01Z",
        },
    ],
}
PROGRESS: dict[str, Any] = {
    "percent": 100, "processedSeconds": 2.5, "totalSeconds": 2.5, "speed": 12.25,
    "message": "done", "updatedAt": "2026-11-22T12:00:08Z",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(api, namespace) -> str:
    path = f"{JOBS.format(namespace=namespace)}/interview"
    api.create(JOBS.format(namespace=namespace), job("interview", {"audio": {"url": "s3://b/a.mp3"}, "model": "base"}))
    for manager, status in (
        ("transcription-runner", {"progress": PROGRESS, "result": RESULT}),
        ("transcription-operator", OPERATORS),
    ):
        part = {k: v for k, v in job("interview", {}).items() if k != "spec"} | {"status": status}
        api.apply(f"{path}/status", part, manager)
    return path


def test_nothing_is_pruned(api, written):
    status = api.get(written)["status"]
    assert status["result"] == RESULT
    assert status["progress"] == PROGRESS
    assert {k: v for k, v in status.items() if k not in ("result", "progress")} == OPERATORS


def test_each_writer_owns_its_part(api, written):
    owners = {
        entry["manager"]: set(entry["fieldsV1"]["f:status"])
        for entry in api.get(written)["metadata"]["managedFields"]
        if entry.get("subresource") == "status"
    }
    assert owners["transcription-runner"] == {"f:progress", "f:result"}
    assert owners["transcription-operator"] == {f"f:{key}" for key in OPERATORS}


def test_a_large_result_keeps_its_managed_fields_small(api, written):
    """`result` is atomic: one entry, and not one for each of thousands of numbers."""
    runner = next(m for m in api.get(written)["metadata"]["managedFields"] if m["manager"] == "transcription-runner")
    assert runner["fieldsV1"]["f:status"]["f:result"] == {}


def test_a_spec_is_not_written_through_the_status(api, written):
    api.merge(f"{written}/status", {"spec": {"model": "large-v3"}, "status": {"attempts": 1}})
    assert api.get(written)["spec"]["model"] == "base"


def test_a_status_is_not_written_with_the_spec(api, written):
    api.merge(written, {"status": {"phase": "Failed"}, "spec": {"suspend": False}})
    assert api.get(written)["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"phase": "Done"}, 'status.phase: Unsupported value: "Done"'),
        ({"progress": {"percent": 101}}, "should be less than or equal to 100"),
        ({"conditions": [{"type": "Complete", "status": "yes"}]}, "status.conditions"),
        ({"result": {"text": ["a", "list"]}}, 'status.result.text: Invalid value: "array"'),
    ],
)
def test_a_status_that_nobody_could_read_is_refused(api, written, status, says):
    with pytest.raises(Refused, match=says):
        api.merge(f"{written}/status", {"status": status}, dryRun="All")


def test_a_result_at_the_inline_limit_goes_through(api, written):
    """256 KiB of segments, and more than that: the API server takes some 1.5 MiB."""
    many = RESULT | {"segments": RESULT["segments"] * 2500}
    part = {k: v for k, v in job("interview", {}).items() if k != "spec"}
    api.apply(f"{written}/status", part | {"status": {"result": many, "progress": PROGRESS}}, "transcription-runner")
    assert len(api.get(written)["status"]["result"]["segments"]) == 2500
    api.apply(f"{written}/status", part | {"status": {"result": RESULT, "progress": PROGRESS}}, "transcription-runner")
