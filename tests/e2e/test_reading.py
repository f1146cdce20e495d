"""What a person reads: kubectl get, describe and explain."""

from __future__ import annotations

from tests.materials import recordings


def test_get_describe_and_explain(namespace, kubectl):
    namespace.job("interview", recording=recordings.dashwood()).succeeded()

    header, row = kubectl.run("get", "tj", "-n", namespace.name).splitlines()
    assert header.split() == ["NAME", "PHASE", "MODEL", "PROGRESS", "LANGUAGE", "DURATION", "AGE"]
    assert row.split()[:3] == ["interview", "Succeeded", "base"]

    described = kubectl.run("describe", "tj", "interview", "-n", namespace.name)
    for word in ("Complete", "Transcribed", "ModelReady", "Dashwood"):
        assert word in described

    explained = kubectl.run("explain", "tj.spec")
    assert "clipTimestamps" in explained
    assert "<no description>" not in explained
