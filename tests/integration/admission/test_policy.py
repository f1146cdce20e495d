"""A runner's token, tried on what it must not do: it can change its own result and progress, and that is all."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.admission.conftest import OPERATORS, RUNNERS
from tests.integration.crds.client import JOBS, Refused, job

RESULT: dict[str, Any] = {"text": " Hello.", "language": "en", "segments": [{"id": 0, "start": 0.0, "end": 1.5}]}
PROGRESS: dict[str, Any] = {"percent": 50, "processedSeconds": 10.0, "totalSeconds": 20.0, "message": "half"}
STARTED = {
    "type": "Started", "status": "True", "reason": "Running", "message": "The pod runs.",
    "lastTransitionTime": "2026-11-22T12:00:00Z",
}  # fmt: skip
ENDS = {
    kind: {**STARTED, "type": kind, "reason": reason, "message": "It is over."}
    for kind, reason in (("Complete", "Transcribed"), ("Failed", "BadAudio"))
}


def running(job_name: str, **more: Any) -> dict[str, Any]:
    """What the operator has written about a job that runs."""
    return {
        "observedGeneration": 1,
        "phase": "Running",
        "jobName": job_name,
        "startTime": "2026-11-22T12:00:00Z",
        "attempts": 1,
        "duration": 20.0,
        "conditions": [STARTED],
        **more,
    }


@pytest.fixture(scope="module")
def own(team) -> str:
    return team.job("interview", running("tj-interview-0a1b2c3d"))


@pytest.fixture(scope="module")
def runner(team, own):
    return team.runner("tj-interview-0a1b2c3d-x7k2p")


def refusal(runner, path: str, status: dict[str, Any]) -> str:
    before = runner_free(runner, path)
    with pytest.raises(Refused) as refused:
        runner.report(path, status)
    assert refused.value.status == 403
    assert runner_free(runner, path) == before, "a refused report changes nothing"
    return str(refused.value)


def runner_free(runner, path: str) -> object:
    """The status as the runner's role shows it."""
    try:
        return runner.api.get(f"{path}/status").get("status")
    except Refused as refused:
        return refused.status


def test_its_own_progress_and_result(api, runner, own):
    runner.report(own, {"progress": PROGRESS})
    runner.report(own, {"progress": PROGRESS | {"percent": 100}, "result": RESULT})
    status = api.get(own)["status"]
    assert status["result"] == RESULT
    assert status["progress"]["percent"] == 100
    assert {k: status[k] for k in running("tj-interview-0a1b2c3d")} == running("tj-interview-0a1b2c3d")


def test_the_operator_writes_on_beside_it(api, team, runner, own):
    runner.report(own, {"progress": PROGRESS})
    body = {k: v for k, v in job("interview", {}).items() if k != "spec"}
    api.apply(f"{own}/status", body | {"status": running("tj-interview-0a1b2c3d", attempts=2)}, OPERATORS)
    runner.report(own, {"progress": PROGRESS | {"percent": 60}, "result": RESULT})
    status = api.get(own)["status"]
    assert (status["attempts"], status["progress"]["percent"], status["phase"]) == (2, 60, "Running")


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Succeeded"},
        {"conditions": [ENDS["Complete"]]},
        {"conditions": [STARTED | {"message": "All is well."}]},
        {"jobName": "tj-other-0a1b2c3d"},
        {"attempts": 0},
        {"observedGeneration": 7},
        {"language": "de"},
        {"duration": 1.0},
        {"completionTime": "2026-11-22T12:00:00Z"},
        {"startTime": "2020-01-01T00:00:00Z"},
        {"resultRef": {"path": "transcripts/other/secret.json"}},
    ],
    ids=lambda status: next(iter(status)),
)
def test_the_operators_fields_are_refused(runner, own, status):
    said = refusal(runner, own, {"progress": PROGRESS, **status})
    assert (
        "a runner may change status.result and status.progress alone; the rest of the status is the operator's" in said
    )


def test_taking_away_the_operators_fields_is_refused(runner, own):
    """Not by apply, which would leave them, but by the other kinds of patch."""
    for status in ({"phase": None}, {"conditions": None}, {"jobName": None, "result": RESULT}):
        with pytest.raises(Refused, match=r"status\.result and status\.progress alone"):
            runner.api.merge(f"{own}/status", {"status": status})


def test_the_operators_fields_as_they_are_go_through(api, runner, own):
    """A patch that repeats what is there changes nothing, and a runner need not know who wrote it."""
    status = api.get(own)["status"]
    runner.api.merge(f"{own}/status", {"status": status | {"progress": PROGRESS | {"percent": 70}}})
    assert api.get(own)["status"]["progress"]["percent"] == 70


def test_the_spec_and_the_labels_stay_out_of_reach(api, runner, own):
    runner.api.merge(
        f"{own}/status",
        {"spec": {"model": "large-v3"}, "metadata": {"labels": {"a": "b"}}, "status": {"progress": PROGRESS}},
    )
    after = api.get(own)
    assert after["spec"]["model"] == "base"
    assert "labels" not in after["metadata"]


def test_another_jobs_status_is_refused(team, runner):
    other = team.job("other", running("tj-other-11111111"))
    said = refusal(runner, other, {"result": RESULT})
    assert (
        "pod 'tj-interview-0a1b2c3d-x7k2p' is not of this TranscriptionJob's Job 'tj-other-11111111', and a runner "
        "may report its own result alone" in said
    )


def test_a_job_whose_name_begins_as_its_own_is_refused(team):
    """The pod of Job tj-a-b is no pod of Job tj-a, whatever of it looks like five characters."""
    short = team.job("a", running("tj-a"))
    long = team.job("a-b", running("tj-a-bbbbb"))
    longs_runner, shorts_runner = team.runner("tj-a-bbbbb-x7k2p"), team.runner("tj-a-x7k2p")
    for runner, path in ((longs_runner, short), (shorts_runner, long)):
        assert "may report its own result alone" in refusal(runner, path, {"result": RESULT})
    longs_runner.report(long, {"result": RESULT})
    shorts_runner.report(short, {"result": RESULT})


@pytest.mark.parametrize(
    "pod", ["tj-dots-0a1b2c3d-x7k2", "tj-dots-0a1b2c3d-x7k2pp", "tj-dots-0a1b2c3d-x7.2p", "x-tj-dots-0a1b2c3d-x7k2p"]
)
def test_pods_of_other_names_are_refused(team, pod):
    jobs = JOBS.format(namespace=team.namespace)
    try:
        path = team.job("dots", running("tj-dots-0a1b2c3d"))
    except Refused:
        path = f"{jobs}/dots"
    assert "may report its own result alone" in refusal(team.runner(pod), path, {"result": RESULT})


def test_a_job_without_a_job_is_refused(team, runner):
    waiting = team.job("waiting", {"phase": "WaitingForModel"})
    new = team.job("new")
    for path in (waiting, new):
        assert "has no Job yet (status.jobName is not set)" in refusal(runner, path, {"result": RESULT})


@pytest.mark.parametrize("kind", ENDS)
def test_a_finished_job_is_refused(team, kind):
    name = f"tj-{kind.lower()}-0a1b2c3d"
    path = team.job(kind.lower(), running(name, conditions=[STARTED, ENDS[kind]]))
    said = refusal(team.runner(f"{name}-x7k2p"), path, {"result": RESULT})
    assert "is finished (Complete or Failed), and its result stands" in said


def test_a_job_that_has_not_failed_yet_is_not_finished(team):
    """Conditions that are False are no end."""
    not_yet = [STARTED, *({**end, "status": "False"} for end in ENDS.values())]
    path = team.job("unfinished", running("tj-unfinished-0a1b2c3d", conditions=not_yet))
    team.runner("tj-unfinished-0a1b2c3d-x7k2p").report(path, {"result": RESULT})


def test_another_namespace_is_refused_by_its_roles(other_team, own):
    """No binding reaches across namespaces: this is RBAC, before any policy."""
    stranger = other_team.runner("tj-interview-0a1b2c3d-x7k2p")
    assert "cannot patch resource" in refusal(stranger, own, {"result": RESULT})


def test_another_namespace_is_refused_by_the_policy_too(api, team, other_team, own):
    """Even where someone has bound the role to a runner from elsewhere, and the names fit."""
    stranger = other_team.runner("tj-interview-0a1b2c3d-zzzzz")
    api.create(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team.namespace}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "careless"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RUNNERS},
            "subjects": [{"kind": "ServiceAccount", "name": RUNNERS, "namespace": other_team.namespace}],
        },
    )
    said = refusal(stranger, own, {"result": RESULT})
    while "cannot patch resource" in said:  # until the binding is known
        said = refusal(stranger, own, {"result": RESULT})
    assert f"a runner may report in its own namespace alone, and system:serviceaccount:{other_team.namespace}" in said


def test_a_token_without_a_pod_is_refused(team, own):
    said = refusal(team.runner(None), own, {"result": RESULT})
    assert "this token names no pod, and only the pod of a TranscriptionJob may report its result" in said


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "{own}", None),
        ("GET", "{jobs}", None),
        ("DELETE", "{own}", None),
        ("PATCH", "{own}", {"spec": {"suspend": True}}),
        ("POST", "{jobs}", job("mine", {"audio": {"url": "s3://b/a.mp3"}, "model": "base"})),
        ("GET", "/api/v1/namespaces/{namespace}/secrets", None),
        ("GET", "/api/v1/namespaces/{namespace}/pods", None),
        ("POST", "/apis/batch/v1/namespaces/{namespace}/jobs", {}),
        ("GET", "/apis/transcription.dev/v1alpha1/transcriptionjobs", None),
    ],
)
def test_nothing_else_is_open_to_it(team, runner, own, method, path, body):
    path = path.format(own=own, jobs=JOBS.format(namespace=team.namespace), namespace=team.namespace)
    with pytest.raises(Refused) as refused:
        runner.api.request(
            method, path, body, "application/merge-patch+json" if method == "PATCH" else "application/json"
        )
    assert refused.value.status == 403


def test_more_rights_than_the_charts_change_nothing(api, team, runner, own):
    """Someone binds the runners a role that may do everything: the policy still holds them to the status."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team.namespace}/rolebindings"
    api.create(
        bindings,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "generous"},
            "roleRef": role, "subjects": [{"kind": "ServiceAccount", "name": RUNNERS, "namespace": team.namespace}],
        },
    )  # fmt: skip
    try:
        for method, path, body in (
            ("PATCH", own, {"spec": {"suspend": True}}),
            ("DELETE", own, None),
            (
                "POST",
                JOBS.format(namespace=team.namespace),
                job("mine", {"audio": {"url": "s3://b/a"}, "model": "base"}),
            ),
        ):
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            said = "cannot"
            while "cannot" in said:  # until the binding is known
                with pytest.raises(Refused) as refused:
                    runner.api.request(method, path, body, kind)
                said = str(refused.value)
            assert "a runner may change nothing but the status of its TranscriptionJob" in said
    finally:
        api.delete(f"{bindings}/generous")


def test_others_are_not_held_to_it(team, own):
    """The policy speaks of runners alone: another account with the role is RBAC's matter."""
    team.runner("some-pod", account="somebody").report(own, {"progress": PROGRESS})


def test_the_api_server_finds_no_fault_in_the_policy(api, chart):
    """kube-controller-manager checks the expressions against the CRD's schema."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/transcription-runner.transcription.dev"
    until = time.monotonic() + 30
    while (policy := api.get(path)).get("status", {}).get("observedGeneration") != policy["metadata"]["generation"]:
        assert time.monotonic() < until, policy.get("status")
        time.sleep(0.2)
    assert policy["status"].get("typeChecking", {}) == {}
