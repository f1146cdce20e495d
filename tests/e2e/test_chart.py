"""The chart's whole life: upgrade, uninstall, install again, with people's resources left alone."""

from __future__ import annotations

from tests.deployment import NAMESPACE, merge
from tests.kubectl import eventually
from tests.materials import recordings


def test_upgrade_uninstall_and_install_again(namespace, operator, kubectl, chart_values):
    job = namespace.job("keepsake", recording=recordings.dashwood())
    text = job.succeeded()["result"]["text"]

    operator.install(merge(chart_values, {"operator": {"podAnnotations": {"example.com/note": "upgraded"}}}))
    upgraded = kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=operator")
    assert "upgraded" in {p["metadata"]["annotations"].get("example.com/note") for p in upgraded}

    operator.uninstall()
    eventually(
        lambda: kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=operator"),
        lambda pods: not pods,
        what="the operator's pod goes",
    )
    assert job.resource()["status"]["result"]["text"] == text, "results outlive the operator"

    waiting = namespace.job("meanwhile", recording=recordings.dashwood())
    assert "status" not in waiting.resource()
    notes = operator.install(chart_values)
    assert "kubectl" in notes
    assert waiting.succeeded()["result"]["text"] == text
