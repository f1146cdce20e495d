"""Each namespace's volume against a real volume binder: replaced when the settings change, gone with its namespace."""

from __future__ import annotations

import pytest

from tests.integration.operator.world import NAMESPACES, PATIENCE, until
from transcription_operator import api as k8s
from transcription_operator import names


@pytest.fixture
def pair(world, namespace):
    """Reads the namespace's PersistentVolume and claim, once they are bound to one another."""

    def read(besides: str = "", patience: float = PATIENCE):
        def bound():
            claim = world.api.get(k8s.CLAIMS, names.CACHE_CLAIM, namespace)
            volume = world.api.get(k8s.VOLUMES, names.cache_volume_name(namespace))
            if not claim or not volume or claim["metadata"]["uid"] == besides:
                return None
            reserved = (volume["spec"].get("claimRef") or {}).get("uid")
            return (volume, claim) if reserved == claim["metadata"]["uid"] else None

        return until(bound, "the volume is bound", patience=patience)

    return read


def test_a_volume_of_other_settings_is_replaced_once_no_pod_uses_it(world, stand_in, namespace, pair):
    """An operator with other settings has made it: what tells them apart is the mark."""
    world.apply(namespace, "first")
    pod = world.pod_of(world.job(namespace, "first"))
    stand_in.runs(pod)
    volume, claim = pair()
    mark = {"metadata": {"annotations": {names.ANNOTATION_VOLUME: "of-other-settings"}}}
    world.api.patch(k8s.VOLUMES, mark, volume["metadata"]["name"])

    world.apply(namespace, "second")
    waiting = world.until_condition(namespace, "Started=False/VolumeChanged", "second")
    assert pod["metadata"]["name"] in waiting["message"]
    assert pair()[1]["metadata"]["uid"] == claim["metadata"]["uid"], "a pod still uses it"

    world.report(namespace, name="first")
    stand_in.succeeds(pod)
    world.until_condition(namespace, "Complete=True", "first")
    # The operator looks again every 15 s: once to take the old pair away, and once to make the new one.
    fresh, _ = pair(besides=claim["metadata"]["uid"], patience=90)
    assert fresh["metadata"]["uid"] != volume["metadata"]["uid"]
    assert fresh["metadata"]["annotations"][names.ANNOTATION_VOLUME] != "of-other-settings"
    until(lambda: world.job(namespace, "second"), "the second job goes on")


def test_a_namespaces_volume_goes_with_it(world):
    namespace = world.namespace()
    world.apply(namespace)
    name = names.cache_volume_name(namespace)
    until(lambda: (world.api.get(k8s.VOLUMES, name) or {}).get("status", {}).get("phase") == "Bound", "it is bound")

    world.api.delete(NAMESPACES, namespace)

    until(lambda: world.api.get(k8s.VOLUMES, name) is None, "the sweep takes it away", patience=60)
