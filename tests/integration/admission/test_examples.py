"""Each example of the chart: what it installs, and what the operator makes of its settings, is accepted as it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import yaml

from tests.cluster import pins
from tests.integration.admission.conftest import CHART
from tests.integration.crds.client import APPLY
from tests.integration.crds.server import namespaced
from transcription_operator import settings as settings_file
from transcription_operator.manifests import Manifest, model_job, namespace, runner_job, volume
from transcription_operator.models import ModelRef
from transcription_operator.settings import Settings
from transcription_operator.spec import parse
from transcription_operator.whispermodel.spec import parse as parse_model
from transcription_operator.whispermodel.views import Task

EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
MADE_BY_A_CLASS = {
    "csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "a#b#c##", "volumeAttributes": {"server": "a", "share": "/b"}},
    "mountOptions": ["nfsvers=4.1"],
}


@functools.cache
def _plurals(api) -> dict[tuple[str, str], tuple[str, bool]]:
    """Path names of all kinds that the API server knows, and whether they are namespaced."""
    groups = ["/api/v1"] + [
        f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.get("/apis")["groups"]
    ]
    return {
        (group, each["kind"]): (each["name"], each["namespaced"])
        for group in groups
        for each in api.get(group)["resources"]
        if "/" not in each["name"]
    }


def accepted(api, manifest: Manifest) -> Manifest:
    """What the API server would store; it refuses unknown fields too."""
    version = manifest["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural, is_namespaced = _plurals(api)[group, manifest["kind"]]
    place = f"/namespaces/{manifest['metadata']['namespace']}" if is_namespaced else ""
    path = f"{group}{place}/{plural}/{manifest['metadata']['name']}"
    query = {"fieldManager": "examples", "force": "true", "dryRun": "All", "fieldValidation": "Strict"}
    answer: Manifest = api.request("PATCH", path, manifest, APPLY, **query)
    return answer


@pytest.fixture(scope="module")
def system(api, chart):
    with namespaced(api, "examples") as name:
        yield name


def rendered(helm, example: str, system: str) -> list[dict[str, Any]]:
    chart = ("template", "example", str(CHART), "--namespace", system, "--kube-version", pins.KUBERNETES)
    text = helm(*chart, "--values", example_file(example))
    return [document for document in yaml.safe_load_all(text) if document]


def example_file(example: str) -> str:
    return str(CHART / "examples" / f"{example}.yaml")


def settings_of(documents: list[dict[str, Any]]) -> Settings:
    (config,) = (each for each in documents if each["kind"] == "ConfigMap")
    return settings_file.parse(yaml.safe_load(config["data"]["config.yaml"]))


def shared_volume(settings: Settings) -> volume.SharedVolume | None:
    if settings.cache.storage_class:
        return volume.of_volume(MADE_BY_A_CLASS)
    return volume.of_settings(settings.cache) if settings.cache.shared else None


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_it_installs(api, helm, system, example):
    for manifest in rendered(helm, example, system):
        accepted(api, manifest)


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_operator_makes_of_it(api, helm, system, example):
    settings = settings_of(rendered(helm, example, system))
    shared = shared_volume(settings)
    model = next(iter(settings.baked_models), ModelRef("openai/whisper-base"))
    spec = parse({"audio": {"url": "s3://bucket/a.mp3"}, "model": model.argument})
    made = [
        namespace.service_account(system),
        namespace.role_binding(system),
        runner_job.build(
            runner_job.Owner(system, "interview", "1"), spec, settings, model=runner_job.Model(model.argument)
        ),
    ]
    if shared:
        made += [volume.persistent_volume(system, shared, settings), volume.claim(system, settings)]
        declared = parse_model("base", {"source": {"hub": {"repo": model.repo, "revision": model.revision}}})
        made += [model_job.build(declared, settings, model_job.Work(Task.DOWNLOAD))]
    if settings.cache.storage_class:
        made += [volume.claim_of_class(settings)]
    for manifest in made:
        stored = accepted(api, manifest)
        if manifest["kind"] == "PersistentVolume":
            assert volume.difference(stored, manifest) is None
            assert stored["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_no_two_namespaces_differ_in_more_than_their_handle(api, helm, system):
    """As the operator makes them for EFS, where even the handle is the same."""
    settings = settings_of(rendered(helm, "efs", system))
    shared = volume.of_settings(settings.cache)
    one, two = (accepted(api, volume.persistent_volume(name, shared, settings)) for name in ("team-a", "team-b"))
    assert one["spec"]["csi"] == two["spec"]["csi"]
    assert one["spec"]["mountOptions"] == ["iam"]
    assert one["spec"]["claimRef"]["namespace"] != two["spec"]["claimRef"]["namespace"]


def test_the_notes_of_a_release_without_a_volume(helm, system):
    def notes(*arguments: str) -> str:
        install = ("install", "example", str(CHART), "--namespace", system, "--dry-run=client", "--take-ownership")
        return helm(*install, *arguments).partition("NOTES:")[2]

    without = notes("--values", example_file("baked"))
    assert "NOTE: there is no shared volume" in without
    assert "model: openai/whisper-large-v3-turbo" in without
    assert "no shared volume" not in notes("--values", example_file("nfs"))
