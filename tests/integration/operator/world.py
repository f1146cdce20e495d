"""A control plane with the chart's rights and policy on it, an operator process, and a stand-in for the kubelet.

No container ever runs here: `StandIn` writes into pods' status what a kubelet would. Scheduler and kubelet are absent,
everything else (API server, admission, Job controller, volume binder, garbage collector) is Kubernetes' own.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException

from tests.unit.operator.building import RESULT
from transcription_operator import api as k8s
from transcription_operator import names, receipt
from transcription_operator.api import Api, ApiError, Object

T = TypeVar("T")
SYSTEM = "transcription-system"
NAMESPACES = k8s.Kind("api/v1", "namespaces", namespaced=False)
PATIENCE = 20.0


def until(look: Callable[[], T | None], what: str, *, patience: float = PATIENCE) -> T:
    """Look until there is something to see."""
    end = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what}"
        time.sleep(0.12)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Operator:
    """`transcription-operator run`, as a process under the chart's ServiceAccount."""

    config: Path
    kubeconfig: Path
    log: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "transcription_operator", "run", f"--config={self.config}",
            f"--kubeconfig={self.kubeconfig}", f"--health-port={self.port}", "--sweep-interval=2", "--log-format=text",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.probe("/readyz") == 200, "the operator is ready")

    def probe(self, path: str) -> int:
        assert self.process is not None
        assert self.process.poll() is None, f"the operator has ended:\n{self.log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def read(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    @contextlib.contextmanager
    def set(self, **sections: Any) -> Iterator[None]:
        """Run with other settings for a while; an operator reads them at its start."""
        before = self.config.read_text()
        try:
            self.stop()
            self.config.write_text(yaml.safe_dump({**yaml.safe_load(before), **sections}))
            self.start()
            yield
        finally:
            self.stop()
            self.config.write_text(before)
            self.start()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """Ask it to end; returns how long that took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(timeout=30)
        return time.monotonic() - started


def a_result_receipt(result: object = RESULT, **fields: Any) -> str:
    document = {
        "version": 1,
        "result": {
            "path": "transcripts/x/y/y.json",
            "url": None,
            "sha256": "ab" * 32,
            "bytes": 120,
            "digest": receipt.digest(result),
        },
        "text": " Hello.",
        "language": "en",
        "duration": 4.96,
        "segments": 1,
        "delivered": True,
        "timings": {"total": 5.0},
        "model": "openai/whisper-base",
    }
    return json.dumps({**document, **fields})


def an_error_receipt(error_class: str, code: int, message: str = "what is wrong.", hint: str | None = None) -> str:
    error = {"class": error_class, "code": code, "message": message, "hint": hint}
    return json.dumps({"version": 1, "error": error})


class World:
    """Everything that a test does to the cluster, and sees of it."""

    def __init__(self, api: Api, client: ApiClient, operator: Operator) -> None:
        self.api = api
        self.core = CoreV1Api(client)
        self.operator = operator

    # namespaces and TranscriptionJobs

    def namespace(self, prefix: str = "team") -> str:
        name = f"{prefix}-{secrets.token_hex(3)}"
        self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def apply(self, namespace: str, name: str = "interview", **spec: Any) -> Object:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"audio": {"url": "s3://bucket/interview.mp3"}, "cache": "Fresh", "model": "base", **spec},
        }
        return self.api.create(k8s.TRANSCRIPTION_JOBS, body, namespace)

    def change(self, namespace: str, name: str = "interview", **spec: Any) -> None:
        self.api.patch(k8s.TRANSCRIPTION_JOBS, {"spec": spec}, name, namespace)

    def get(self, namespace: str, name: str = "interview") -> Object | None:
        return self.api.get(k8s.TRANSCRIPTION_JOBS, name, namespace)

    def delete(self, namespace: str, name: str = "interview") -> None:
        self.api.delete(k8s.TRANSCRIPTION_JOBS, name, namespace)

    def condition(self, namespace: str, kind: str, name: str = "interview") -> Object:
        found = self.get(namespace, name) or {}
        every = (found.get("status") or {}).get("conditions") or []
        return next((c for c in every if c["type"] == kind), {})

    def until_condition(self, namespace: str, wanted: str, name: str = "interview") -> Object:
        """Wait for a condition, written `Type=Status/Reason` or `Type=Status`."""
        kind, _, value = wanted.partition("=")
        status, _, reason = value.partition("/")
        seen: Object = {}

        def look() -> Object | None:
            nonlocal seen
            seen = self.condition(namespace, kind, name)
            fits = seen.get("status") == status and reason in ("", seen.get("reason"))
            return seen if fits else None

        try:
            return until(look, wanted)
        except AssertionError as error:
            status_now = json.dumps((self.get(namespace, name) or {}).get("status"), indent=1)[:3000]
            raise AssertionError(f"{error}; status: {status_now}\n{self.operator.log.read_text()[-3000:]}") from None

    def until_phase(self, namespace: str, phase: str, name: str = "interview") -> Object:
        def look() -> Object | None:
            found = self.get(namespace, name)
            return found if found and (found.get("status") or {}).get("phase") == phase else None

        return until(look, f"phase {phase}")

    def report(self, namespace: str, result: object = RESULT, name: str = "interview") -> None:
        """What the runner would write."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": {"result": result, "progress": {"percent": 100}},
        }
        self.api._request(
            "PATCH",
            k8s.TRANSCRIPTION_JOBS.path(namespace, name, "status"),
            query={"fieldManager": "transcription-runner", "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )

    def events(self, namespace: str, name: str = "interview") -> list[str]:
        fields = f"involvedObject.name={name}"
        return [e["reason"] for e in self.api.list(k8s.CORE_EVENTS, namespace, fields=fields)]

    # WhisperModels

    def apply_model(self, name: str, source: Object, **spec: Any) -> Object:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.MODEL_KIND,
            "metadata": {"name": name},
            "spec": {"source": source, **spec},
        }
        return self.api.create(k8s.WHISPER_MODELS, body)

    def model(self, name: str) -> Object:
        return self.api.get(k8s.WHISPER_MODELS, name) or {"status": {}}

    def model_condition(self, name: str, kind: str) -> Object:
        every = (self.model(name).get("status") or {}).get("conditions") or []
        return next((c for c in every if c["type"] == kind), {})

    def until_model(self, name: str, wanted: str, *, patience: float = 40) -> Object:
        """Wait for a condition of a WhisperModel, written `Type=Status/Reason`."""

        def look() -> Object | None:
            kind, _, value = wanted.partition("=")
            found = self.model_condition(name, kind)
            return found if f"{found.get('status')}/{found.get('reason')}" == value else None

        try:
            return until(look, wanted, patience=patience)
        except AssertionError as error:
            now = json.dumps(self.model(name), indent=1)[:4000]
            raise AssertionError(f"{error}; {now}\n{self.operator.log.read_text()[-3000:]}") from None

    def annotate_model(self, name: str, annotations: dict[str, str]) -> None:
        self.api.patch(k8s.WHISPER_MODELS, {"metadata": {"annotations": annotations}}, name)

    def delete_model(self, name: str) -> None:
        self.api.delete(k8s.WHISPER_MODELS, name)

    def long_ago(self, name: str) -> None:
        """Have it look as if nobody had used it, and nothing had happened to it, for a year."""
        then = "2025-01-01T00:00:00Z"
        conditions = [{**c, "lastTransitionTime": then} for c in self.model(name)["status"]["conditions"]]
        status = {"lastUsed": then, "conditions": conditions}
        path = k8s.WHISPER_MODELS.path(None, name, "status")
        self.api._request("PATCH", path, body={"status": status}, content_type="application/merge-patch+json")

    def _as_download(self, name: str, pod: Object, status: Object) -> None:
        """What a download writes, with the token that its pod has."""
        meta = pod["metadata"]
        account = k8s.SERVICE_ACCOUNTS.path(SYSTEM, names.DOWNLOAD_SERVICE_ACCOUNT, "token")
        spec = {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token = self.api._request("POST", account, body=request)["status"]["token"]
        known = self.core.api_client.configuration
        configuration = Configuration(host=known.host, api_key={"BearerToken": f"Bearer {token}"})
        configuration.ssl_ca_cert = known.ssl_ca_cert
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.MODEL_KIND,
            "metadata": {"name": name},
            "status": status,
        }
        Api(configuration)._request(
            "PATCH",
            k8s.WHISPER_MODELS.path(None, name, "status"),
            query={"fieldManager": "transcription-download", "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )

    def report_download(self, name: str, pod: Object, progress: Object) -> None:
        def look() -> bool:
            try:
                self._as_download(name, pod, {"progress": progress})
            except ApiError as error:
                if error.status != 403:
                    raise
                return False  # the operator names its Job in the status a moment later
            return True

        until(look, "a download may report")

    def refused_report(self, name: str, pod: Object, status: Object) -> str:
        """The API server's words; fails if it lets the report pass."""
        try:
            self._as_download(name, pod, status)
        except ApiError as error:
            return str(error)
        raise AssertionError("was let pass")

    # Jobs and pods

    def job(self, namespace: str, name: str = "interview", *, patience: float = PATIENCE) -> Object:
        def look() -> Object | None:
            selector = f"{names.LABEL_JOB}={names.job_label(name)}"
            return next(iter(self.api.list(k8s.JOBS, namespace, labels=selector)), None)

        return until(look, f"a Job for {namespace}/{name}", patience=patience)

    def download(self, repo: str, revision: str = "main") -> Object:
        name = names.model_job_name(repo, revision)
        return until(lambda: self.api.get(k8s.JOBS, name, SYSTEM), f"a download Job for {repo}")

    def another_download(self, repo: str, before: Object) -> Object:
        """The next Job under the same name."""
        uid = before["metadata"]["uid"]
        return until(lambda: (d := self.download(repo))["metadata"]["uid"] != uid and d, "another Job", patience=40)

    def pod_of(self, job: Object, *, besides: str = "", patience: float = PATIENCE) -> Object:
        """The Job's pod that has not ended yet."""
        namespace, uid = job["metadata"]["namespace"], job["metadata"]["uid"]

        def look() -> Object | None:
            found = self.api.list(k8s.PODS, namespace, labels=f"batch.kubernetes.io/controller-uid={uid}")
            return next(
                (
                    pod
                    for pod in found
                    if pod["status"].get("phase") not in ("Succeeded", "Failed")
                    and pod["metadata"]["name"] != besides
                    and "deletionTimestamp" not in pod["metadata"]
                ),
                None,
            )

        return until(look, f"a pod of Job {job['metadata']['name']}", patience=patience)


class StandIn:
    """Plays the kubelet and the scheduler: writes their words into pods' status."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _write(self, pod: Object, status: Object) -> None:
        meta = pod["metadata"]
        for _ in range(5):
            try:
                self._world.core.patch_namespaced_pod_status(meta["name"], meta["namespace"], {"status": status})
                return
            except ApiException as error:
                if error.status != 409:
                    raise

    @staticmethod
    def _now() -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _container(self, state: Object, name: str = names.CONTAINER) -> Object:
        return {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}

    def _scheduled(self) -> Object:
        return {"type": "PodScheduled", "status": "True", "lastTransitionTime": self._now()}

    def runs(self, pod: Object) -> None:
        container = self._container({"running": {"startedAt": self._now()}})
        self._write(pod, {"phase": "Running", "conditions": [self._scheduled()], "containerStatuses": [container]})

    def ends(
        self,
        pod: Object,
        code: int,
        message: str = "",
        *,
        reason: str = "",
        container: str = names.CONTAINER,
        **status: Any,
    ) -> None:
        terminated = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "startedAt": self._now(),
            "finishedAt": self._now(),
        }
        key = "containerStatuses" if container == names.CONTAINER else "initContainerStatuses"
        phase = "Succeeded" if code == 0 else "Failed"
        ended = self._container({"terminated": terminated}, container)
        self._write(pod, {"phase": phase, key: [ended], **status})

    def succeeds(self, pod: Object, message: str | None = None) -> None:
        self.ends(pod, 0, a_result_receipt() if message is None else message)

    def fails(self, pod: Object, error_class: str, code: int, message: str = "what is wrong.") -> None:
        self.ends(pod, code, an_error_receipt(error_class, code, message))

    def cannot_be_scheduled(self, pod: Object, words: str) -> None:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": words,
            "lastTransitionTime": self._now(),
        }
        self._write(pod, {"conditions": [condition]})

    def waits(self, pod: Object, reason: str, words: str) -> None:
        waiting = {"waiting": {"reason": reason, "message": words}}
        self._write(pod, {"conditions": [self._scheduled()], "containerStatuses": [self._container(waiting)]})


def chart_objects(helm: Path, chart: Path) -> list[Object]:
    """The chart, rendered as for a cluster of this version."""
    done = subprocess.run(
        [
            str(helm), "template", "transcription-operator", str(chart), f"--namespace={SYSTEM}",
            "--kube-version=1.35.4", f"--values={chart / 'examples' / 'hostpath.yaml'}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]
