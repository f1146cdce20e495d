"""Who may do what: the operator no more than it does, a runner next to nothing."""

from __future__ import annotations

from typing import Any

import pytest

OPERATOR = "release-transcription-operator"
RUNNER = "transcription-runner"
DOWNLOAD = "transcription-download"
NAMED = {
    "serviceaccounts": "transcription-runner",
    "rolebindings": "transcription-runner",
    "persistentvolumeclaims": "transcription-cache",
    "configmaps": "transcription-ca",
}


def rules(chart, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chart.one("ClusterRole", name)["rules"]
    return found


@pytest.mark.parametrize("name", [OPERATOR, RUNNER, DOWNLOAD])
def test_no_wildcards(chart, name):
    for rule in rules(chart, name):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "nonResourceURLs" not in rule


@pytest.mark.parametrize("name", [OPERATOR, RUNNER, DOWNLOAD])
def test_nothing_that_gives_more(chart, name):
    resources = {r for rule in rules(chart, name) for r in rule["resources"]}
    assert not resources & {"secrets", "roles", "clusterrolebindings", "pods/exec", "pods/attach", "nodes"}
    assert not {v for rule in rules(chart, name) for v in rule["verbs"]} & {
        "escalate",
        "impersonate",
        "deletecollection",
    }


def test_a_runner_may_write_a_status_and_nothing_else(chart):
    assert rules(chart, RUNNER) == [
        {"apiGroups": ["transcription.dev"], "resources": ["transcriptionjobs/status"], "verbs": ["get", "patch"]}
    ]


def test_a_download_may_write_a_status_and_nothing_else(chart):
    assert rules(chart, DOWNLOAD) == [
        {"apiGroups": ["transcription.dev"], "resources": ["whispermodels/status"], "verbs": ["patch"]}
    ]
    subjects = chart.one("ClusterRoleBinding", DOWNLOAD)["subjects"]
    assert subjects == [{"kind": "ServiceAccount", "name": DOWNLOAD, "namespace": "system"}]


def test_the_operator_gives_the_runners_role_and_no_other(chart):
    (rule,) = (r for r in rules(chart, OPERATOR) if "clusterroles" in r["resources"])
    assert (rule["verbs"], rule["resourceNames"]) == (["bind"], [RUNNER])


@pytest.mark.parametrize("resource", NAMED)
def test_what_it_changes_in_namespaces_has_a_name(chart, resource):
    for rule in rules(chart, OPERATOR):
        if resource in rule["resources"]:
            assert rule["verbs"] == ["create"] or rule["resourceNames"] == [NAMED[resource]]


def test_all_that_the_operator_may(chart):
    """tests/integration/operator runs the operator with these rights alone."""
    allowed: dict[str, set[str]] = {}
    for rule in rules(chart, OPERATOR):
        (group,) = rule["apiGroups"]
        for resource in rule["resources"]:
            allowed.setdefault(f"{group}/{resource}".strip("/"), set()).update(rule["verbs"])
    assert allowed == {
        "transcription.dev/transcriptionjobs": {"get", "list", "watch", "patch", "delete"},
        "transcription.dev/transcriptionjobs/status": {"patch"},
        "transcription.dev/whispermodels": {"get", "list", "watch", "create", "patch", "delete"},
        "transcription.dev/whispermodels/status": {"patch"},
        "batch/jobs": {"get", "list", "watch", "create", "patch", "delete"},
        "pods": {"list", "watch"},
        "events": {"list"},
        "events.k8s.io/events": {"create"},
        "serviceaccounts": {"get", "create"},
        "configmaps": {"get", "create", "patch"},
        "persistentvolumeclaims": {"get", "create", "delete"},
        "persistentvolumes": {"get", "list", "create", "patch", "delete"},
        "rbac.authorization.k8s.io/rolebindings": {"get", "create"},
        "rbac.authorization.k8s.io/clusterroles": {"bind"},
    }


@pytest.mark.parametrize("who", [RUNNER, DOWNLOAD])
def test_the_policies(chart, who):
    name = f"{who}.transcription.dev"
    policy = chart.one("ValidatingAdmissionPolicy", name)["spec"]
    binding = chart.one("ValidatingAdmissionPolicyBinding", name)["spec"]
    assert policy["failurePolicy"] == "Fail"
    assert binding["validationActions"] == ["Deny"]
    assert binding["policyName"] == name
    assert "matchResources" not in binding, "it holds in every namespace"
    assert all("message" in v or "messageExpression" in v for v in policy["validations"])
