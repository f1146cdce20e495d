"""Which WhisperModel a job means, what it is told of it, and what a model's Job says at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.operator.model_building import a_model
from tests.unit.operator.test_parts import json_values
from transcription_operator import handlers, models, names, resolve
from transcription_operator.metrics import Metrics
from transcription_operator.receipt import Failure
from transcription_operator.settings import ModelSettings
from transcription_operator.views import ModelState
from transcription_operator.whispermodel import report
from transcription_operator.whispermodel.report import Report
from transcription_operator.whispermodel.views import Task

ANY = ModelSettings()


def state_of(wish: str, *every: a_model, policy: ModelSettings = ANY) -> ModelState:
    return resolve.state(models.parse(wish), [model.manifest for model in every], policy)


def created(model: a_model, moment: str) -> a_model:
    model.manifest["metadata"]["creationTimestamp"] = moment
    return model


def test_a_models_own_name_comes_before_a_short_name():
    ours = a_model("base", volume={"path": "ours"}).that_is_ready()
    found = state_of("base", a_model("other").that_is_ready(), ours)
    assert (found.status, found.argument) == ("Ready", "/models/ours")


def test_of_several_with_the_same_source_a_ready_one_then_the_oldest():
    old, new = created(a_model("old"), "2026-01-01T00:00:00Z"), created(a_model("new"), "2026-02-01T00:00:00Z")
    assert state_of("base", new, old).name == "old"
    assert state_of("openai/whisper-base", new.that_is_ready(), old).name == "new"
    assert state_of("base", new.being_deleted(), old).name == "old"


def test_another_revision_is_another_model():
    found = state_of("base@v1", a_model().that_is_ready())
    assert found.status == "Absent"
    assert found.name == names.model_resource_name("openai/whisper-base", "v1")


@pytest.mark.parametrize("allow", [("*",), ("someone/*", "openai/whisper-*")])
def test_what_policy_allows_is_made(allow):
    found = state_of("base", policy=ModelSettings(allow=allow))
    assert found.status == "Absent"
    wish = models.parse("base")
    assert wish.ref
    made = resolve.missing(wish.ref)
    assert made["metadata"]["name"] == found.name
    assert resolve.find(wish, [{**made, "metadata": {**made["metadata"], "creationTimestamp": ""}}])


@pytest.mark.parametrize("policy", [ModelSettings(create=False), ModelSettings(allow=("someone/*",))])
def test_what_it_forbids_is_not_and_what_is_there_may_be_used(policy):
    forbidden = state_of("base", policy=policy)
    assert forbidden.status == "NotAllowed"
    assert "Ask the cluster's administrator" in forbidden.message
    assert state_of("base", a_model().that_is_ready(), policy=policy).status == "Ready"


def test_a_misspelt_name_is_guessed_at():
    assert "Did you mean 'large-v3'?" in state_of("large-v33").message
    assert "Did you mean 'interviews'?" in state_of("interview", a_model("interviews")).message


def test_an_adapter_has_no_short_names():
    wish = models.parse_adapter("base")
    missing = resolve.state(wish, [a_model().that_is_ready().manifest], ANY)
    assert missing.status == "Ready", "a WhisperModel of that name"
    missing = resolve.state(wish, [], ANY)
    assert missing.status == "NotFound"
    assert "set spec.adapter to another one" in missing.message
    assert resolve.state(models.parse_adapter("owner/lora@v2"), [], ANY).argument == "owner/lora@v2"


@pytest.mark.parametrize(
    ("model", "status"),
    [
        (a_model(), "Waiting"),
        (a_model().that_is("Failed", "GatedRepository"), "Failed"),
        (a_model().that_is("Evicted", "Evicting"), "Waiting"),
        (a_model().that_is("Evicted", "Evicted"), "Evicted"),
        (a_model().that_is("Evicted", "Evicted").annotated(names.ANNOTATION_WANTED, "old-job"), "Waiting"),
        (a_model().that_is("Failed", "Unauthorized").annotated(names.ANNOTATION_WANTED, "old-job"), "Waiting"),
        (a_model().that_is("Failed", "Unauthorized").annotated(names.ANNOTATION_WANTED, "older-job"), "Failed"),
        (a_model().that_is("Pending", "RateLimited", retry={"count": 1, "at": "2026-11-22T12:01:00Z"}), "Retrying"),
        (a_model().that_is_ready().being_deleted(), "Waiting"),
        (a_model().that_is_ready().annotated(names.ANNOTATION_REPAIR, "uid-of-base.0"), "Waiting"),
        (a_model().that_is("Failed", "Unauthorized").annotated(names.ANNOTATION_REPAIR, "uid-of-base.0"), "Failed"),
        (a_model().that_is_ready(repairs=1).annotated(names.ANNOTATION_REPAIR, "uid-of-base.0"), "Ready"),
    ],
)
def test_what_a_job_is_told(model, status):
    assert state_of("openai/whisper-base", model).status == status


def test_a_downloads_steps_are_no_storm_of_writes():
    def marks(percents: range) -> tuple[set[Any], set[str]]:
        seen = [a_model().that_is("Downloading", "Downloading", progress={"percent": p}) for p in percents]
        return {handlers.model_mark(m.manifest) for m in seen}, {state_of("base", m).message for m in seen}

    assert tuple(map(len, marks(range(101)))) == (11, 11)


def test_a_job_that_waits_for_a_slow_volume_reads_so():
    def waits(reason: str) -> str:
        return state_of("base", a_model().that_is("Downloading", reason, progress=progress)).message

    progress = {"percent": 42, "reason": "VolumeSlow"}
    assert waits("VolumeSlow").startswith("40 %. VolumeSlow:")
    assert "VolumeSlow" not in waits("Downloading"), "not before the model says so"


def fresh(wish: str, *every: a_model, policy: ModelSettings = ANY) -> ModelState:
    return resolve.fresh(models.parse(wish), [model.manifest for model in every], policy)


def test_fresh_wants_a_model_of_the_hub():
    assert fresh("base@v1").argument == "openai/whisper-base@v1"
    assert fresh("ours", a_model("ours")).argument == "openai/whisper-base"
    other = fresh("ours", a_model("ours", url="s3://b/m"))
    assert other.status == "Unusable"
    assert "s3://b/m" in other.message
    assert fresh("ours").status == "NotFound"


def test_fresh_is_no_way_around_the_policy():
    policy = ModelSettings(allow=("someone/*",))
    assert fresh("base", policy=policy).status == "NotAllowed"
    assert fresh("base", a_model(), policy=policy).status == "NotNeeded", "somebody has declared it"
    assert fresh("base", policy=ModelSettings(create=False)).status == "NotNeeded", "the cache stays as it is"


# --- what a model's Job says -------------------------------------------------------------------------------


@given(json_values)
def test_no_message_breaks_the_reader(value):
    report.parse(json.dumps(value))
    report.parse(json.dumps({"model": value, "cache": value, "transfer": value}))
    parts = {"bytes": value, "commit": value, "seconds": value}
    report.parse(json.dumps({"model": parts, "cache": parts, "transfer": parts}))


@pytest.mark.parametrize("message", ["", "Traceback", "[]", "3", '{"model": {"bytes": Infinity}}'])
def test_what_is_no_report(message):
    assert report.parse(message) == Report()


def test_the_metrics_are_prometheus_own():
    metrics = Metrics()
    metrics.ended(Task.DOWNLOAD, None, Report(cache_bytes=5, downloaded_bytes=3, written_bytes=3, seconds=2.0))
    metrics.ended(Task.REPAIR, Failure("Temporary", "", reason="RateLimited"), Report(downloaded_bytes=1))
    metrics.ended(Task.VERIFY, Failure("CorruptModelCache", ""), Report())
    metrics.ended(Task.VERIFY, Failure("Temporary", ""), Report())
    metrics.damaged()
    metrics.asked(hit=True)
    metrics.read(7)
    metrics.seen("base", "Ready", 2)
    metrics.seen("gone", "Ready", 1)
    metrics.gone("gone")
    page = metrics.page().decode()
    samples = {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }
    expected = {
        ("transcription_model_downloads_total", "", "success"): 1,
        ("transcription_model_downloads_total", "RateLimited", "failure"): 1,
        ("transcription_model_download_bytes_total",): 4,
        ("transcription_model_written_bytes_total",): 3,
        ("transcription_model_download_seconds_sum",): 2,
        ("transcription_model_verify_failures_total",): 2,
        ("transcription_model_requests_total", "hit"): 1,
        ("transcription_model_requests_total", "miss"): 0,
        ("transcription_model_read_bytes_total",): 7,
        ("transcription_model_cache_bytes",): 5,
        ("transcription_models", "Ready"): 1,
        ("transcription_models", "Corrupt"): 0,
        ("transcription_model_users", "base"): 2,
    }
    assert expected.items() <= samples.items()
    assert not [key for key in samples if "gone" in key]
