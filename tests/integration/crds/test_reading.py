"""What people read with kubectl: get, get -o wide, explain."""

from __future__ import annotations

import re

import pytest

from tests.integration.crds.client import JOBS, job


@pytest.fixture(scope="module")
def table(api, namespace) -> str:
    path = JOBS.format(namespace=namespace)
    spec = {"audio": {"url": "s3://b/a.mp3"}, "model": "large-v3"}
    for name in ("interview", "new", "broken"):
        api.create(path, job(name, spec))
    api.merge(
        f"{path}/interview/status",
        {
            "status": {
                "phase": "Running", "language": "fr", "duration": 1200.5, "jobName": "tj-interview-0a1b2c3d",
                "progress": {"percent": 42},
                "conditions": [condition("Started", "Running", "The pod runs.")],
            }
        },
    )  # fmt: skip
    missing = "s3://b/a.mp3: no such object. Check the bucket and the key."
    conditions = [condition("Started", "Running", "The pod ran."), condition("Failed", "SourceMissing", missing)]
    api.merge(f"{path}/broken/status", {"status": {"phase": "Failed", "conditions": conditions}})
    return namespace


def condition(kind: str, reason: str, message: str) -> dict[str, str]:
    return {
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-22T12:00:00Z",
    }  # fmt: skip


def columns(text: str) -> list[list[str]]:
    """A table's cells, by the places of its header's words."""
    header, *rows = text.splitlines()
    starts = [m.start() for m in re.finditer(r"\S+", header)]
    ends = [*starts[1:], None]
    return [[row[start:end].strip() for start, end in zip(starts, ends, strict=True)] for row in (header, *rows)]


def test_get(kubectl, table):
    header, broken, interview, new = columns(kubectl("get", "tj", "-n", table))
    assert header == ["NAME", "PHASE", "MODEL", "PROGRESS", "LANGUAGE", "DURATION", "AGE"]
    assert interview[:-1] == ["interview", "Running", "large-v3", "42", "fr", "1200.5"]
    assert broken[:3] == ["broken", "Failed", "large-v3"]
    assert new[:-1] == ["new", "", "large-v3", "", "", ""]


def test_get_wide(kubectl, table):
    header, broken, interview, _ = columns(kubectl("get", "tj", "-n", table, "-o", "wide"))
    assert header[7:] == ["JOB", "STARTED", "FAILURE", "MESSAGE"]
    assert interview[7:] == ["tj-interview-0a1b2c3d", "Running", "", ""]
    assert broken[8:] == ["Running", "SourceMissing", "s3://b/a.mp3: no such object. Check the bucket and the key."]


def test_by_category_and_by_its_long_names(kubectl, table):
    for name in ("transcription", "transcriptionjobs", "transcriptionjob", "transcriptionjobs.transcription.dev"):
        assert "interview" in kubectl("get", name, "-n", table, "-o", "name")


def test_explain(kubectl, api):
    explained = kubectl("explain", "tj.spec")
    for line in (
        "audio\t<Object> -required-",
        "model\t<string> -required-",
        "enum: batched, sequential",
        "Whisper's default is false.",
        "Default: auto",
    ):
        assert line in explained, explained
    assert max(map(len, explained.splitlines())) <= 100
    assert "Example: s3://bucket/transcripts/" in kubectl("explain", "tj.spec.output")
    assert "WaitingForModel: its model is" in " ".join(kubectl("explain", "tj.status.phase").split())


def test_explain_recursive_reaches_the_last_field(kubectl, api):
    explained = kubectl("explain", "tj", "--recursive")
    for field in ("hallucinationSilenceThreshold", "mismatchLabelKeys", "probability", "sha256"):
        assert field in explained
