"""Whatever happens in whatever order, killed at whatever write: the same end."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator import building
from tests.unit.operator.fake import FakeServer
from transcription_operator import api as k8s
from transcription_operator import names
from transcription_operator.api import Api, ApiError
from transcription_operator.keys import Key, ModelKey
from transcription_operator.reconcile import Reconciler
from transcription_operator.whispermodel.reconcile import ModelReconciler

KEY = Key("team-a", "interview")
SETTINGS = building.settings()


def a_world(**spec: Any) -> FakeServer:
    server = FakeServer()
    body = building.a_job().having(**spec).manifest
    server.create(k8s.TRANSCRIPTION_JOBS, {**body, "metadata": {"name": KEY.name}}, KEY.namespace)
    server.writes = 0
    return server


def reconcile(server: FakeServer) -> None:
    """With reconcilers of their own, as after a restart: nothing in memory may matter."""
    api = cast(Api, server)
    with contextlib.suppress(ApiError):
        Reconciler(api, SETTINGS).reconcile(KEY)
    for model in list(server.list(k8s.WHISPER_MODELS)):
        with contextlib.suppress(ApiError):
            ModelReconciler(api, SETTINGS).reconcile(ModelKey(model["metadata"]["name"]))


def settle(server: FakeServer, *, error: str = "", code: int = 0) -> dict[str, Any]:
    server.break_at = None
    for _ in range(22):
        reconcile(server)
        server.step_pod("download")
        server.step_pod("runner", error=error, code=code)
    before = server.writes
    reconcile(server)
    assert server.writes == before, "at rest, nothing is written"
    found = server.get(k8s.TRANSCRIPTION_JOBS, KEY.name, KEY.namespace)
    assert found is not None
    return found


def state_of(found: dict[str, Any]) -> set[str]:
    return {f"{c['type']}={c['status']}/{c['reason']}" for c in found["status"]["conditions"]}


steps = st.lists(
    st.one_of(
        st.just("reconcile"),
        st.just("download"),
        st.just("runner"),
        st.just("lose the runner Job"),
        st.just("lose the download Job"),
        st.just("suspend"),
        st.just("resume"),
        st.integers(1, 12).map(lambda number: f"killed at write {number}"),
    ),
    max_size=40,
)


def play(server: FakeServer, script: list[str], *, error: str = "", code: int = 0) -> None:
    owner = server.objects[(names.PLURAL, KEY.namespace, KEY.name)]
    for step in script:
        match step.split():
            case ["reconcile"]:
                reconcile(server)
            case ["download"]:
                server.step_pod("download")
            case ["runner"]:
                server.step_pod("runner", error=error, code=code)
            case ["lose", "the", component, "Job"]:
                for job in server.jobs(component):
                    if not job.get("status", {}).get("conditions"):
                        kind, meta = k8s.JOBS, job["metadata"]
                        server.delete(kind, meta["name"], meta["namespace"])
            case ["suspend"] | ["resume"]:
                owner["spec"]["suspend"] = step == "suspend"
            case ["killed", "at", "write", number]:
                server.break_at = server.writes + int(number)
                reconcile(server)
                server.break_at = None
    owner["spec"]["suspend"] = False


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_way_leads_to_the_transcript(script):
    server = a_world()
    play(server, script)
    found = settle(server)
    assert {"Complete=True/Transcribed", "ModelReady=True/Ready"} <= state_of(found)
    assert found["metadata"]["labels"] == {names.LABEL_FINISHED: "true"}
    assert found["status"]["result"] == building.RESULT
    assert found["status"]["attempts"] >= 1
    assert len(server.jobs("runner")) == 1


@settings(max_examples=30, deadline=None)
@given(steps)
def test_every_way_leads_to_the_same_failure(script):
    server = a_world()
    play(server, script, error="BadAudio", code=65)
    found = settle(server, error="BadAudio", code=65)
    assert "Failed=True/BadAudio" in state_of(found)
    assert found["status"]["phase"] == "Failed"


@settings(max_examples=30, deadline=None)
@given(steps)
def test_a_damaged_cache_is_repaired_exactly_once(script):
    server = a_world()
    play(server, script, error="CorruptModelCache", code=80)
    found = settle(server, error="CorruptModelCache", code=80)
    assert {"Failed=True/CorruptModelCache", "ModelReady=True/Repaired"} <= state_of(found)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25))
def test_killed_once_at_any_write(number):
    server = a_world()
    server.break_at = number
    for _ in range(12):
        reconcile(server)
        server.step_pod("download")
        server.step_pod("runner")
    found = settle(server)
    assert "Complete=True/Transcribed" in state_of(found)
    assert found["status"]["attempts"] == 1
    assert len(server.jobs("download")) == 1


# --- a model on its own ------------------------------------------------------------------------------------

MODEL = "ours"
model_steps = st.lists(
    st.one_of(
        st.just("reconcile"),
        st.just("download"),
        st.just("fail"),
        st.just("lose the download Job"),
        st.sampled_from([names.ANNOTATION_VERIFY, names.ANNOTATION_RETRY]),
        st.integers(1, 9).map(lambda number: f"killed at write {number}"),
    ),
    max_size=30,
)


def a_world_with_a_model() -> FakeServer:
    server = FakeServer()
    body = {"metadata": {"name": MODEL}, "spec": {"source": {"hub": {"repo": "a/b", "revision": "main"}}}}
    server.create(k8s.WHISPER_MODELS, body)
    server.writes = 0
    return server


def live(server: FakeServer, script: list[str]) -> None:
    model = server.objects[(names.MODEL_PLURAL, None, MODEL)]
    for number, step in enumerate(script):
        match step.split():
            case ["fail"]:
                server.step_pod("download", code=66, error="ModelMissing")
            case ["killed", *_] | ["lose", *_] | ["reconcile"] | ["download"]:
                play_model(server, step)
            case [annotation]:
                model["metadata"].setdefault("annotations", {})[annotation] = str(number)


def play_model(server: FakeServer, step: str) -> None:
    match step.split():
        case ["download"]:
            server.step_pod("download")
        case ["reconcile"]:
            reconcile(server)
        case ["lose", *_]:
            for job in server.jobs("download"):
                server.delete(k8s.JOBS, job["metadata"]["name"], job["metadata"]["namespace"])
        case ["killed", *_, number]:
            server.break_at = server.writes + int(number)
            reconcile(server)
            server.break_at = None


def at_rest(server: FakeServer) -> None:
    for _ in range(20):
        reconcile(server)
        server.step_pod("download")
    before = server.writes
    reconcile(server)
    assert server.writes == before, "at rest, nothing is written"


@settings(max_examples=60, deadline=None)
@given(model_steps)
def test_every_way_leads_to_the_model_once_somebody_asks(script):
    server = a_world_with_a_model()
    live(server, script)
    at_rest(server)
    annotations = server.objects[(names.MODEL_PLURAL, None, MODEL)]["metadata"].setdefault("annotations", {})
    annotations[names.ANNOTATION_RETRY] = "at last"
    at_rest(server)
    found = server.get(k8s.WHISPER_MODELS, MODEL)
    assert found
    assert found["status"]["phase"] == "Ready"
    assert found["metadata"]["finalizers"] == [names.FINALIZER]
    assert len(server.jobs("download")) <= 1


@settings(max_examples=60, deadline=None)
@given(model_steps, model_steps)
def test_every_way_leads_out(before, after):
    server = a_world_with_a_model()
    live(server, before)
    server.delete(k8s.WHISPER_MODELS, MODEL)
    if server.get(k8s.WHISPER_MODELS, MODEL):
        with contextlib.suppress(KeyError):  # it may be gone in the middle of the script
            live(server, [step for step in after if step != "fail"])
    at_rest(server)
    assert server.get(k8s.WHISPER_MODELS, MODEL) is None
    assert server.jobs("download") == [], "no Job stays behind"


# --- an API server that refuses ----------------------------------------------------------------------------


class Refusing(FakeServer):
    """An API server that has something against a Job of runners."""

    refusal: ApiError | None = None

    def create(self, kind, body, namespace=None):
        if kind == k8s.JOBS and "runner" in body["metadata"]["labels"].values() and self.refusal:
            raise self.refusal
        return super().create(kind, body, namespace)


def a_refusing_world(status: int, message: str) -> Refusing:
    server = Refusing()
    body = building.a_job().having(cache="Fresh").manifest
    server.create(k8s.TRANSCRIPTION_JOBS, {**body, "metadata": {"name": KEY.name}}, KEY.namespace)
    server.refusal = ApiError(status, "Refused", message)
    for _ in range(3):
        reconcile(server)
    return server


def test_a_job_that_the_api_server_calls_invalid_fails_with_its_words():
    server = a_refusing_world(422, "spec.template.spec.tolerations[0].key: Invalid value")
    found = settle(server)
    assert "Failed=True/Usage" in state_of(found)
    assert "tolerations[0].key" in found["status"]["conditions"][-1]["message"]
    assert names.LABEL_FINISHED in found["metadata"]["labels"]


def test_a_job_that_is_forbidden_says_so_until_it_is_allowed():
    server = a_refusing_world(403, "admission webhook says no")
    found = server.get(k8s.TRANSCRIPTION_JOBS, KEY.name, KEY.namespace)
    assert found
    assert "Started=False/JobRefused" in state_of(found)
    server.refusal = None
    assert "Complete=True/Transcribed" in state_of(settle(server))
