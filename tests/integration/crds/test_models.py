"""What the API server says to WhisperModels, and what people read of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.crds.client import MODELS, Refused, model
from tests.integration.crds.test_reading import columns, condition

HUB: dict[str, Any] = {"hub": {"repo": "openai/whisper-base"}}
NOT_A_REPOSITORY = "spec.source.hub.repo: not a repository at the Hub: write owner/repo"
NOT_A_REVISION = "spec.source.hub.revision: not a revision: write a branch, a tag or a commit"
NOT_A_STORE = "spec.source.url: not a folder of an object store: write s3://bucket/prefix"
NOT_A_FOLDER = "spec.source.volume.path: not a folder below models/: write a relative path"


@pytest.mark.parametrize(
    ("source", "spec", "says"),
    [
        ({}, {}, "spec.source: name one source: hub (a repository), url"),
        ({**HUB, "url": "s3://b/m"}, {}, "spec.source: name one source"),
        ({"hub": {"repo": "base"}}, {}, NOT_A_REPOSITORY),
        ({"hub": {"repo": "https://huggingface.co/openai/whisper-base"}}, {}, NOT_A_REPOSITORY),
        ({"hub": {"repo": "../models"}}, {}, NOT_A_REPOSITORY),
        ({"hub": {"repo": "a/b", "revision": "../../x"}}, {}, NOT_A_REVISION),
        ({"hub": {"repo": "a/b", "revision": "-x"}}, {}, NOT_A_REVISION),
        ({"url": "https://example.org/model"}, {}, NOT_A_STORE),
        ({"url": "file:///srv/model"}, {}, NOT_A_STORE),
        ({"url": "s3://"}, {}, NOT_A_STORE),
        ({"url": "s3://b/m?versionId=1"}, {}, "spec.source.url: the address has spaces, .., ? or # in it"),
        ({"volume": {"path": "/etc"}}, {}, NOT_A_FOLDER),
        ({"volume": {"path": "own/../../etc"}}, {}, NOT_A_FOLDER),
        ({"volume": {}}, {}, "spec.source.volume.path: Required value"),
        (HUB, {"credentialsSecret": {"name": "keys"}}, "spec.credentialsSecret: credentialsSecret is of use with"),
        ({"url": "s3://b/m"}, {"tokenSecret": {"name": "hf"}}, "spec.tokenSecret: a Hub token is of use with"),
        (HUB, {"retention": {"unusedDays": -1}}, "spec.retention.unusedDays: Invalid value: -1"),
    ],
)
def test_refused(api, source, spec, says):
    with pytest.raises(Refused) as refused:
        api.create(MODELS, model("x", source, **spec), dryRun="All")
    field, _, text = says.partition(": ")
    assert [c for c in refused.value.causes if c.startswith(f"{field}: ") and text in c], refused.value.causes


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("a" * 64, HUB, "the name is too long; jobs carry it as a label, which takes 63 characters at most"),
        ("a--b", {"url": "s3://b/m"}, "the name becomes a folder of the cache here"),
    ],
)
def test_names_refused(api, name, source, says):
    with pytest.raises(Refused, match=says):
        api.create(MODELS, model(name, source), dryRun="All")


@pytest.mark.parametrize(
    ("source", "spec"),
    [
        (HUB, {}),
        ({"hub": {"repo": "Org/Fine.tuned_whisper", "revision": "refs/pr/12"}}, {"tokenSecret": {"name": "hf"}}),
        ({"url": "s3://bucket/models/whisper"}, {"credentialsSecret": {"name": "keys"}}),
        ({"url": "gs://bucket"}, {"retention": {"unusedDays": 0}}),
        ({"url": "abfs://container@account.dfs.core.windows.net/whisper"}, {"retention": {"unusedDays": 30}}),
        ({"volume": {"path": "own/whisper v1..2"}}, {}),
    ],
)
def test_accepted(api, source, spec):
    accepted = api.create(MODELS, model("a" * 63, source, **spec), dryRun="All")["spec"]
    assert spec.items() <= accepted.items()


def test_the_default_revision(api):
    made = api.create(MODELS, model("x", HUB), dryRun="All")
    assert made["spec"]["source"]["hub"]["revision"] == "main"


def test_the_source_stands_and_the_rest_may_change(api):
    path = f"{MODELS}/stands"
    api.create(MODELS, model("stands", HUB))
    with pytest.raises(Refused, match="the source cannot change; delete this WhisperModel and create another one"):
        api.merge(path, {"spec": {"source": {"hub": {"revision": "v1"}}}}, dryRun="All")
    api.merge(path, {"spec": {"retention": {"unusedDays": 3}, "tokenSecret": {"name": "hf"}}}, dryRun="All")
    api.delete(path)


def test_get(api, kubectl):
    api.create(MODELS, model("read", HUB))
    progress = {"percent": 42, "bytesPerSecond": 1500.5, "etaSeconds": 12, "file": "model.safetensors"}
    status = {
        "phase": "Downloading", "repo": "openai/whisper-base", "bytes": 290, "files": 9, "shortCommit": "c0ffee",
        "users": 0, "progress": progress,
        "conditions": [condition("Ready", "Downloading", "Job x downloads it.") | {"status": "False"}],
    }  # fmt: skip
    api.merge(f"{MODELS}/read/status", {"status": status})
    header, row = columns(kubectl("get", "wm", "read"))
    assert header == [
        "NAME", "PHASE", "SIZE", "FILES", "PROGRESS", "SPEED", "ETA", "COMMIT", "USERS", "LASTUSED", "AGE"
    ]  # fmt: skip
    assert row[:-1] == ["read", "Downloading", "290", "9", "42", "1500.5", "12", "c0ffee", "0", ""]
    header, row = columns(kubectl("get", "wm", "read", "-o", "wide"))
    assert header[11:] == ["SOURCE", "REASON", "MESSAGE"]
    assert row[11:] == ["openai/whisper-base", "Downloading", "Job x downloads it."]
    assert "read" in kubectl("get", "transcription", "-o", "name")
    api.delete(f"{MODELS}/read")


def test_each_writer_owns_its_part(api):
    api.create(MODELS, model("shared", HUB))
    part = {k: v for k, v in model("shared", HUB).items() if k != "spec"}
    path = f"{MODELS}/shared/status"
    api.apply(path, part | {"status": {"phase": "Downloading", "progress": {"percent": 0}}}, "transcription-operator")
    api.apply(path, part | {"status": {"progress": {"percent": 7, "file": "x"}}}, "transcription-download")
    api.apply(path, part | {"status": {"phase": "Downloading"}}, "transcription-operator")
    assert api.get(path)["status"] == {"phase": "Downloading", "progress": {"percent": 7, "file": "x"}}
    api.delete(f"{MODELS}/shared")


def test_explain(kubectl, api):
    assert "hub" in kubectl("explain", "wm.spec.source")
    assert "Evicted: nobody used it" in " ".join(kubectl("explain", "wm.status.phase").split())
