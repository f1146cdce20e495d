"""Where models come from, and what a user reads when they do not: against a Hub that refuses, cuts, stalls and lies."""

from __future__ import annotations

import pytest

from tests.deployment import NAMESPACE
from tests.e2e.conftest import GATED, RESUMED, TOKEN
from tests.e2e.test_models import sha256
from tests.e2e.world import Model
from tests.kubectl import condition, eventually
from tests.materials import recordings
from tests.materials.faults import Fault

WEIGHTS = "resume/*/model.safetensors"


@pytest.fixture
def declare(kubectl, operator, volume, hub_here):
    """Applies a WhisperModel; all that were applied go at the end, and what the Hub does wrong with them."""
    made = []

    def apply(name, source, **spec):
        kubectl.apply(
            {
                "apiVersion": "transcription.dev/v1alpha1",
                "kind": "WhisperModel",
                "metadata": {"name": name},
                "spec": {"source": source, **spec},
            }
        )
        made.append(name)
        return lambda: kubectl.get("wm", name) or {}

    hub_here.behaviour.forget()
    yield apply
    hub_here.behaviour.clear()
    for name in made:
        kubectl.delete("wm", name)


def ready(look):
    return eventually(look, lambda m: condition(m, "Ready").get("status") == "True", what="it is Ready", seconds=240)


def failed(look, reason):
    found = eventually(
        look, lambda m: condition(m, "Ready").get("reason") == reason, what=f"it says {reason}", seconds=120
    )
    assert found["status"]["phase"] == "Failed"
    return condition(found, "Ready")["message"]


def secret(kubectl, name, **entries):
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": entries,
        }
    )


def test_a_gated_repository_and_its_token(kubectl, declare, volume, killable_folder):
    source = {"hub": {"repo": GATED}}
    assert "HF_TOKEN" in failed(declare("refused", source), "GatedRepository")

    secret(kubectl, "hub-token", token=TOKEN)
    ready(declare("let-in", {"hub": {"repo": GATED, "revision": "main"}}, tokenSecret={"name": "hub-token"}))

    assert sha256(Model(kubectl, volume, GATED).file("model.safetensors")) == sha256(
        killable_folder / "model.safetensors"
    )


@pytest.mark.parametrize(
    ("repo", "revision", "reason", "words"),
    [
        ("resume/whisper-bass", "main", "Unauthorized", "misspelt"),
        (RESUMED[0], "v9", "RevisionNotFound", "'v9'"),
    ],
)
def test_what_is_not_there(declare, repo, revision, reason, words):
    message = failed(declare("not-there", {"hub": {"repo": repo, "revision": revision}}), reason)
    assert words in message
    assert "transcription.dev/retry" in message, "and how to have it tried again"


def test_a_hub_that_is_asked_too_much(declare, hub_here):
    hub_here.behaviour.add(Fault("status", path="resume/*", status=429, retry_after=3600))
    look = declare("too-much", {"hub": {"repo": RESUMED[0]}})
    told = eventually(
        look, lambda m: "RateLimited" in condition(m, "Ready").get("message", ""), what="it says why", seconds=120
    )
    assert "3600 s (Retry-After)" in condition(told, "Ready")["message"]
    assert told["status"]["phase"] == "Downloading", "and tries again by itself"
    hub_here.behaviour.clear()
    ready(look)


@pytest.mark.parametrize("kind", ["cut", "corrupt", "stall"])
def test_what_goes_wrong_once_is_mended_by_itself(kubectl, declare, volume, hub_here, killable_folder, kind):
    """A stall is given up after 30 s without a byte."""
    hub_here.behaviour.add(Fault(kind, path=WEIGHTS, at=10_000_000, times=1))
    whole = killable_folder / "model.safetensors"

    ready(declare(kind, {"hub": {"repo": RESUMED[1]}}))

    model = Model(kubectl, volume, RESUMED[1])
    assert sha256(model.file("model.safetensors")) == sha256(whole)
    first, second = hub_here.behaviour.requests(WEIGHTS, "content")
    assert first.range is None
    assert (second.range is None) == (kind == "corrupt"), "what was here is kept, unless it was wrong"


def test_an_object_store_as_the_source(namespace, kubectl, declare, s3_here, volume, whisper_tiny_en):
    for path in whisper_tiny_en.iterdir():
        s3_here.put(f"models/tiny/{path.name}", path)
    secret(kubectl, "store-keys", **s3_here.environment)
    url = f"s3://{s3_here.bucket}/models/tiny"
    ready(declare("from-a-bucket", {"url": url}, credentialsSecret={"name": "store-keys"}))

    job = namespace.job("bucket", recording=recordings.dashwood(), model="from-a-bucket")

    assert "prudently" in job.succeeded()["result"]["text"]
    folder = Model(kubectl, volume, "whispermodel/from-a-bucket").folder
    assert sha256(next(folder.glob("snapshots/*/model.safetensors"))) == sha256(whisper_tiny_en / "model.safetensors")
