"""The small parts: names, models, settings, receipts, conditions, queue, throttle, observation."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator.building import NOW, a_receipt, settings
from transcription_operator import cli, conditions, handlers, models, names, receipt, sweeper
from transcription_operator.errors import SettingsError, SpecError
from transcription_operator.health import Health
from transcription_operator.keys import Key, ModelKey
from transcription_operator.queue import WorkQueue
from transcription_operator.receipt import Failure, Receipt
from transcription_operator.settings import parse
from transcription_operator.spec import parse as parse_spec
from transcription_operator.views import job_view, pod_view
from transcription_operator.waiters import Waiters

DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
resource_names = st.from_regex(rf"\A{DNS}(\.{DNS})*\Z").filter(lambda name: len(name) <= 253)


# --- names and models --------------------------------------------------------------------------------------


@given(resource_names, st.uuids())
def test_names_of_jobs_leave_room_for_their_pods(name, uid):
    job = names.runner_job_name(name, str(uid))
    assert re.fullmatch(rf"tj-{DNS}", job)
    assert len(job) <= 57
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", names.job_label(name))
    assert len(names.job_label(name)) <= 63


@given(st.from_regex(r"\A[A-Za-z0-9][\w.-]{0,90}/[A-Za-z0-9][\w.-]{0,90}\Z", alphabet=st.characters(codec="ascii")))
def test_names_of_downloads(repo):
    name = names.model_job_name(repo, "main")
    assert re.fullmatch(DNS, name)
    assert len(name) <= 57
    assert name != names.model_job_name(repo, "other")


@pytest.mark.parametrize(
    ("written", "repo", "revision"),
    [
        ("base", "openai/whisper-base", "main"),
        ("tiny.en", "openai/whisper-tiny.en", "main"),
        ("turbo", "openai/whisper-large-v3", "main"),
        ("large-v3-turbo", "openai/whisper-large-v3-turbo", "main"),
        ("base@abc123", "openai/whisper-base", "abc123"),
        ("someone/fine-tuned@v1.0", "someone/fine-tuned", "v1.0"),
    ],
)
def test_models(written, repo, revision):
    assert models.parse(written).ref == models.ModelRef(repo, revision)


@pytest.mark.parametrize("written", ["", "bas@main", "Bas", "a/b/c", "../x", "a/b@../c", "a/..", "-x/y"])
def test_no_models(written):
    with pytest.raises(SpecError, match=r"spec\.model"):
        models.parse(written)


@pytest.mark.parametrize("written", ["", "Lora", "lora@main", "./lora", "/models/lora", "a/b@../c"])
def test_no_adapters(written):
    with pytest.raises(SpecError, match=r"spec\.adapter"):
        models.parse_adapter(written)


@pytest.mark.parametrize(
    "audio",
    [
        {},
        {"url": "--model=x"},
        {"volume": {"claimName": "c", "path": "a/../../b"}},
        {"volume": {"claimName": "transcription-cache", "path": "transcripts/team-b/x/x.json"}},
    ],
)
def test_sources_that_are_none(audio):
    with pytest.raises(SpecError, match=r"spec\.audio"):
        parse_spec({"audio": audio, "model": "base"})


def test_a_name_may_be_a_whispermodels():
    assert models.parse("our-model") == models.ModelWish("our-model", None)
    assert models.parse("base").name == "base", "a WhisperModel called base comes before the short name"
    assert models.parse("a/b").name is None


@given(st.from_regex(r"\A[A-Za-z0-9][\w.-]{0,90}/[A-Za-z0-9][\w.-]{0,90}\Z", alphabet=st.characters(codec="ascii")))
def test_names_of_models_that_jobs_bring(repo):
    name = names.model_resource_name(repo, "main")
    assert re.fullmatch(DNS, name)
    assert len(name) <= 63
    assert name != names.model_resource_name(repo, "v1.0")


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"namespace": None}, "namespace: is required"),
        ({"cache": {"volume": {}}}, "cache.volume: give exactly one"),
        ({"cache": {"volume": {"nfs": {}, "csi": {}}}}, r"found \['csi', 'nfs'\]"),
        ({"imagePullPolicy": "Sometimes"}, "imagePullPolicy: 'Sometimes'"),
        ({"runner": {"backoffLimit": -1}}, "runner.backoffLimit: -1 is less than 0"),
        ({"runner": {"backoffLimit": True}}, "runner.backoffLimit: expected int"),
        ({"runner": {"env": ["X=1"]}}, r"runner.env\[0\]"),
        ({"runner": {"ressources": {}}}, "runner.ressources: no such setting"),
        ({"models": {"allow": "openai/*"}}, "models.allow: expected list"),
        ({"retention": {"dryRun": "no"}}, "retention.dryRun: expected bool"),
        ({"hub": "http://x"}, "hub: expected a mapping"),
    ],
)
def test_settings_that_cannot_be_used_say_where(change, words):
    document = {
        "namespace": "x",
        "runnerImage": "y",
        "cache": {"volume": {"hostPath": {"path": "/srv"}}},
        **change,
    }
    with pytest.raises(SettingsError, match=words):
        parse(document)


def test_the_contracts_example():
    text = (names_file() / "docs" / "contracts.md").read_text()
    import yaml

    [block] = [b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "runnerImage" in b]
    parsed = parse(yaml.safe_load(block))
    assert parsed.inline_limit_bytes == 262144
    assert parsed.cache.access_modes == ("ReadWriteMany",)


def names_file():
    from pathlib import Path

    return Path(__file__).resolve().parents[3]


def test_a_bad_settings_file_ends_the_command_with_its_reason(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("namespace: [")
    assert cli.main(["run", f"--config={file}"]) == 64
    assert f"{file}: is no YAML" in capsys.readouterr().err
    assert cli.main(["run", f"--config={tmp_path / 'none.yaml'}"]) == 64
    assert "No such file" in capsys.readouterr().err


# --- receipts ----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def rewritten(value):
    """As the API server gives it back: whole numbers without a point, keys in another order."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [rewritten(item) for item in value]
    if isinstance(value, dict):
        return {key: rewritten(value[key]) for key in reversed(value)}
    return value


@given(json_values)
def test_a_digest_is_of_the_value_and_not_of_its_bytes(value):
    assert receipt.digest(value) == receipt.digest(rewritten(json.loads(json.dumps(value))))


def test_a_digest_by_hand():
    import hashlib

    expected = hashlib.sha256('{"a":[1.0,2.5,true,null],"ä":"ö"}'.encode()).hexdigest()
    assert receipt.digest({"ä": "ö", "a": [1, 2.5, True, None]}) == expected


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "Traceback (most recent call last)",
        "[]",
        "1",
        '"x"',
        '{"result": 3}',
        '{"result": {"digest": "x"}}',
        '{"error": "x"}',
    ],
)
def test_what_is_no_receipt(message):
    assert receipt.parse(message) is None


@given(json_values)
def test_no_message_breaks_the_reader(value):
    receipt.parse(json.dumps(value))
    receipt.parse(json.dumps({"error": value}))
    receipt.parse(json.dumps({"result": value}))


def test_a_reason_that_is_none_is_replaced_by_the_codes():
    found = receipt.parse(json.dumps({"error": {"class": "rm -rf /", "code": 65, "message": "x"}}))
    assert isinstance(found, Failure)
    assert found.error_class == "BadAudio"


def test_a_null_url_is_left_out():
    assert "url" not in a_receipt().reference


# --- conditions --------------------------------------------------------------------------------------------


def test_a_conditions_time_moves_with_its_status_only():
    first = conditions.Conditions([], generation=1, now=NOW)
    first.set("Started", False, "JobCreated", "a")
    second = conditions.Conditions(first.as_list(), generation=2, now=NOW + timedelta(minutes=1))
    second.set("Started", False, "Unschedulable", "b")
    assert second.as_list()[0]["lastTransitionTime"] == "2026-11-22T12:00:00Z"
    second.set("Started", True, "Running", "c")
    assert second.as_list()[0]["lastTransitionTime"] == "2026-11-22T12:01:00Z"
    changes = conditions.transitions(first.as_list(), second.as_list())
    assert [(c.type, c.status, c.reason) for c in changes] == [("Started", "True", "Running")]


def test_a_message_that_reads_differently_is_no_transition():
    first = conditions.Conditions([], generation=1, now=NOW)
    first.set("Started", True, "Running", "a")
    second = conditions.Conditions(first.as_list(), generation=1, now=NOW)
    second.set("Started", True, "Running", "b")
    assert conditions.transitions(first.as_list(), second.as_list()) == []


# --- the queue ---------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_given_out_once():
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert queue.get() == "a"
    assert len(queue) == 0


def test_a_key_added_while_it_is_worked_on_comes_again_afterwards():
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0, "not to a second worker at the same time"
    queue.done("a")
    assert queue.get() == "a"


def test_failures_wait_longer_each_time():
    queue: WorkQueue[str] = WorkQueue(first_delay=1, longest_delay=5)
    assert [queue.retry("a") for _ in range(5)] == [1, 2, 4, 5, 5]
    queue.forget("a")
    assert queue.retry("a") == 1


def test_of_several_delays_the_shortest_counts():
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 7)
    clock.now = 3.5
    assert queue.get() == "a"
    queue.done("a")
    clock.now = 20
    queue.add("b")
    assert queue.get() == "b", "the others are forgotten"


def test_closing_wakes_everybody():
    queue: WorkQueue[str] = WorkQueue()
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(queue.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(5)
    assert seen == [None, None, None]


def test_no_key_is_ever_with_two_workers():
    queue: WorkQueue[int] = WorkQueue()
    busy: set[int] = set()
    lock = threading.Lock()
    clashes: list[int] = []
    counts = dict.fromkeys(range(5), 0)

    def work() -> None:
        while (key := queue.get()) is not None:
            with lock:
                if key in busy:
                    clashes.append(key)
                busy.add(key)
            counts[key] += 1
            with lock:
                busy.discard(key)
            queue.done(key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        queue.add(number % 5)
    while len(queue):
        pass
    queue.close()
    for thread in threads:
        thread.join(5)
    assert not clashes
    assert all(counts.values())


def test_waiters():
    waiters: Waiters[Key] = Waiters()
    a, b = Key("x", "a"), Key("x", "b")
    assert waiters.set(a, "one")
    assert not waiters.set(a, "one")
    waiters.set(b, "one")
    assert waiters.set(a, "two")
    assert waiters.of("one") == [b]
    waiters.set(b, None)
    assert waiters.of("one") == []
    assert waiters.of("two") == [a]


# --- events to keys ----------------------------------------------------------------------------------------


def test_a_long_names_pod_finds_its_resource():
    name = "a" * 100
    meta = {"namespace": "x", "name": "pod", "annotations": {names.ANNOTATION_JOB: name}, "labels": {}}
    assert handlers.job_of(meta) == Key("x", name)


def test_a_downloads_pod_stands_for_its_job():
    labels = {names.LABEL_COMPONENT: "download", "batch.kubernetes.io/job-name": "model-x"}
    assert handlers.model_job_of({"namespace": "s", "name": "model-x-abcde", "labels": labels}) == "model-x"
    assert handlers.model_job_of({"namespace": "s", "name": "x", "labels": {}}) is None


def test_a_change_of_status_is_no_news():
    news = handlers.News()
    key, meta = Key("x", "a"), {"uid": "1", "generation": 1, "resourceVersion": "1"}
    assert news.is_news(key, meta)
    assert not news.is_news(key, {**meta, "resourceVersion": "2"})
    assert news.is_news(key, {**meta, "generation": 2})
    assert news.is_news(key, {**meta, "uid": "2"})
    assert news.is_news(ModelKey("a"), {**meta, "uid": "2"}), "a model's name may be a job's"
    news.forget(key)
    assert news.is_news(key, {**meta, "uid": "2"})


def test_a_download_that_says_what_holds_it_up_is_news():
    news, meta = handlers.News(), {"uid": "1", "generation": 1}

    def looks(progress: dict) -> bool:
        return news.is_news(ModelKey("a"), meta, *handlers._of_a_model(meta, {"status": {"progress": progress}}))

    assert looks({"percent": 1})
    assert not looks({"percent": 2})
    assert looks({"percent": 2, "reason": "VolumeSlow"})
    assert not looks({"percent": 3, "reason": "VolumeSlow"})


def test_the_sweeper_looks_at_the_changed_and_the_expired():
    def item(generation: int, expires: str | None) -> dict:
        annotations = {names.ANNOTATION_GENERATION: "1"} | ({names.ANNOTATION_EXPIRES: expires} if expires else {})
        return {"metadata": {"generation": generation, "annotations": annotations}}

    future = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not sweeper.is_due(item(1, None))
    assert not sweeper.is_due(item(1, future))
    assert sweeper.is_due(item(1, "2020-01-01T00:00:00Z"))
    assert sweeper.is_due(item(2, future))


# --- observation -------------------------------------------------------------------------------------------


def a_pod(**status):
    return {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-11-22T12:00:00Z"},
        "status": status,
    }


def a_container(state, name="runner"):
    return {"name": name, "state": state}


def test_a_receipt_is_read_from_the_runners_container_alone():
    good = {
        "terminated": {"exitCode": 0, "message": json.dumps({"result": {"digest": "d", "sha256": "s", "bytes": 1}})}
    }
    forged = a_container({"terminated": {"exitCode": 0, "message": good["terminated"]["message"]}}, "sidecar")
    assert pod_view(a_pod(phase="Succeeded", containerStatuses=[forged])).receipt is None
    found = pod_view(a_pod(phase="Succeeded", containerStatuses=[forged, a_container(good)])).receipt
    assert isinstance(found, Receipt)


def test_the_logs_end_speaks_where_there_is_no_receipt():
    state = {"terminated": {"exitCode": 70, "message": "Traceback ...\nValueError: x"}}
    view = pod_view(a_pod(phase="Failed", containerStatuses=[a_container(state)]))
    assert view.failure == Failure("Internal", "exit code 70: Traceback ...\nValueError: x", 70)


def test_a_job_is_over_only_when_the_controller_says_so_for_good():
    job = {
        "metadata": {"name": "j", "uid": "u", "creationTimestamp": "2026-11-22T12:00:00Z"},
        "status": {"conditions": [{"type": "FailureTarget", "status": "True"}], "failed": 1},
    }
    assert job_view(job).ended is None
    job["status"]["conditions"].append(
        {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "lastTransitionTime": "2026-11-22T12:01:00Z"}
    )
    view = job_view(job)
    assert (view.ended, view.reason, view.ended_at) == ("Failed", "PodFailurePolicy", NOW + timedelta(minutes=1))


def test_health_is_honest():
    health = Health()
    assert health.problems() == []
    assert health.unready() == ["not started yet: waiting for the API server or the TranscriptionJob CRD"]
    health.started()
    assert health.unready() == []
    health._beat -= 100
    assert health.problems() == ["event loop silent for 100 s"]
    health.watch("worker threads are dead", lambda: False)
    assert "worker threads are dead" in health.problems()
    assert settings().namespace


def test_a_container_that_has_just_ended_is_no_news_before_its_pod_has():
    ended = a_container({"terminated": {"exitCode": 0, "startedAt": "2026-11-22T12:00:00Z"}})
    assert pod_view(a_pod(phase="Running", containerStatuses=[ended])).running
