"""What the API server says to manifests, good and bad: accepted.yaml and refused.yaml are the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.crds.client import JOBS, Refused, job, laid_over

HERE = Path(__file__).parent
GOOD: dict[str, Any] = {"audio": {"url": "s3://bucket/interview.mp3"}, "model": "base"}
REFUSED = yaml.safe_load((HERE / "refused.yaml").read_text())
ACCEPTED = yaml.safe_load((HERE / "accepted.yaml").read_text())


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["why"])
def test_refused(api, namespace, case):
    with pytest.raises(Refused) as refused:
        api.create(JOBS.format(namespace=namespace), job("x", laid_over(GOOD, case["spec"])), dryRun="All")
    answers = list(refused.value.causes)
    for expected in case["says"]:
        field, _, text = expected.partition(": ")
        found = next((a for a in answers if a.startswith(f"{field}: ") and text in a), None)
        assert found, f"nothing says {expected!r}; said: {refused.value.causes}"
        answers.remove(found)
    assert not answers, "more was said than the table has"


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["why"])
def test_accepted(api, namespace, case):
    accepted = api.create(JOBS.format(namespace=namespace), job("x", case["spec"]), dryRun="All")
    missing = [key for key, value in case["spec"].items() if accepted["spec"].get(key) is None]
    assert not missing


def test_unknown_fields_are_named(api, namespace):
    with pytest.raises(Refused, match=r'unknown field "spec.beam_size"'):
        api.create(JOBS.format(namespace=namespace), job("x", GOOD | {"beam_size": 5}), dryRun="All")


def test_defaults(api, namespace):
    spec = api.create(JOBS.format(namespace=namespace), job("x", GOOD), dryRun="All")["spec"]
    assert spec == GOOD | {
        "language": "auto",
        "task": "transcribe",
        "mode": "batched",
        "device": "auto",
        "engine": "transformers",
        "cache": "Shared",
        "output": {"formats": ["json"]},
        "suspend": False,
    }


def test_defaults_inside_of_what_is_given(api, namespace):
    spec = GOOD | {"vad": {"speechPadMs": 100}, "output": {"url": "s3://bucket/out/"}}
    made = api.create(JOBS.format(namespace=namespace), job("x", spec), dryRun="All")["spec"]
    assert made["vad"] == {"enabled": True, "threshold": 0.5, "speechPadMs": 100}
    assert made["output"] == {"formats": ["json"], "url": "s3://bucket/out/"}
