"""What an end-to-end test speaks of: namespaces with recordings, and jobs that it applies, awaits and reads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tests import deployment
from tests.kubectl import Kubectl, Object, condition, eventually

# A pod imports torch in some 11 s here, two run side by side on two cores, and the first one waits for a download.
PATIENCE = 300.0


@dataclasses.dataclass(frozen=True)
class Job:
    """One TranscriptionJob of a test."""

    kubectl: Kubectl
    namespace: str
    name: str

    def resource(self) -> Object:
        """The TranscriptionJob as it is now."""
        found = self.kubectl.get("tj", self.name, self.namespace)
        assert found, f"there is no TranscriptionJob {self.namespace}/{self.name}"
        return found

    def until(self, holds: Any, what: str, seconds: float = PATIENCE) -> Object:
        """The resource once `holds`; a failing test shows it, its pods and their logs."""
        return self._eventually(self.resource, holds, what, seconds)

    def _eventually(self, look: Any, holds: Any, what: str, seconds: float) -> Any:
        try:
            return eventually(look, holds, what=what, seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.explain()}") from None

    def finished(self, seconds: float = PATIENCE) -> Object:
        """The resource once Complete or Failed is True."""
        return self.until(
            lambda r: any(condition(r, kind).get("status") == "True" for kind in ("Complete", "Failed")),
            f"{self.name} is finished", seconds,
        )  # fmt: skip

    def succeeded(self, seconds: float = PATIENCE) -> Object:
        """The status of the job once it is Complete."""
        resource = self.finished(seconds)
        assert condition(resource, "Complete").get("status") == "True", f"not complete:\n{self.explain()}"
        assert resource["status"]["phase"] == "Succeeded"
        status: Object = resource["status"]
        return status

    def failed(self, reason: str, seconds: float = PATIENCE) -> str:
        """The message of the job's Failed condition, which must be for `reason`."""
        resource = self.finished(seconds)
        failed = condition(resource, "Failed")
        assert failed.get("status") == "True", f"not failed:\n{self.explain()}"
        assert failed["reason"] == reason, f"{failed}\n{self.explain()}"
        assert resource["status"]["phase"] == "Failed"
        message: str = failed["message"]
        return message

    def running_pod(self, seconds: float = PATIENCE) -> Object:
        """The runner's pod once its main container runs."""

        def pods() -> list[Object]:
            return self.kubectl.list("pods", self.namespace, f"transcription.dev/job={self.name}")

        def running(seen: list[Object]) -> bool:
            return any(
                "running" in (c.get("state") or {}) for p in seen for c in p["status"].get("containerStatuses", [])
            )

        found: Object = self._eventually(pods, running, f"the runner of {self.name} runs", seconds)[0]
        return found

    def explain(self) -> str:
        """What a person would look at: the resource, its pods, events and logs."""
        chosen = f"transcription.dev/job={self.name}"
        return "\n".join(
            self.kubectl.shown("-n", self.namespace, *arguments)
            for arguments in (
                ("describe", "tj", self.name),
                ("get", "pods,jobs,pvc"),
                ("describe", "pods", "-l", chosen),
                ("logs", "-l", chosen, "--all-containers", "--prefix", "--tail=60"),
            )
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """A model in the cache: its WhisperModel, whoever made it, and its folder on the volume."""

    kubectl: Kubectl
    volume: Path
    repo: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.volume / "models" / f"models--{self.repo.replace('/', '--')}"

    def file(self, name: str) -> Path:
        """One file of its only snapshot, as its link."""
        (found,) = self.folder.glob(f"snapshots/*/{name}")
        return found

    def resource(self) -> Object | None:
        """Its WhisperModel as it is now."""
        hub = {"repo": self.repo, "revision": "main"}
        every = self.kubectl.list("whispermodels")
        return next((m for m in every if m["spec"]["source"].get("hub") == hub), None)

    def until(self, holds: Any, what: str, seconds: float = PATIENCE) -> Object:
        """The WhisperModel once there is one and `holds`."""
        found = eventually(self.resource, lambda m: m is not None and holds(m), what=what, seconds=seconds)
        assert found is not None
        return found

    def ready(self, repairs: int | None = None) -> Object:
        """The WhisperModel once it is Ready, after so many repairs."""

        def holds(model: Object) -> bool:
            right = repairs is None or model["status"].get("repairs") == repairs
            return right and condition(model, "Ready").get("status") == "True"

        return self.until(holds, f"{self.repo} is Ready")

    def annotate(self, name: str, value: str) -> None:
        """What a person asks of it."""
        model = self.resource()
        assert model
        self.kubectl.run(
            "annotate", "--overwrite", "wm", model["metadata"]["name"], f"transcription.dev/{name}={value}"
        )

    def delete(self) -> None:
        """Deletes its WhisperModel, if there is one, and waits until its files are gone too."""
        if model := self.resource():
            self.kubectl.delete("wm", model["metadata"]["name"])


@dataclasses.dataclass(frozen=True)
class Namespace:
    """A namespace of one test, with the recordings' claim in it."""

    kubectl: Kubectl
    name: str
    recordings: Path

    def create(self) -> None:
        """Makes the namespace and its claim."""
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}})
        self.kubectl.apply(*deployment.recordings_claim(self.name, self.recordings))

    def remove(self, *, wait: bool) -> None:
        """Takes away what `create` made and all that is in it."""
        self.kubectl.delete("namespace", self.name, wait=wait)
        self.kubectl.delete("pv", f"recordings-{self.name}", wait=wait)

    def job(self, name: str, *, recording: Path | None = None, **spec: Any) -> Job:
        """Applies a TranscriptionJob; `recording` is put where the claim finds it."""
        if recording is not None:
            spec["audio"] = deployment.place(recording, self.recordings)
        self.kubectl.apply(deployment.transcription_job(name, self.name, **spec))
        return Job(self.kubectl, self.name, name)

    def secret(self, name: str, **entries: str) -> None:
        """A Secret with text entries."""
        self.kubectl.apply(
            {
                "apiVersion": "v1", "kind": "Secret", "stringData": entries,
                "metadata": {"name": name, "namespace": self.name},
            }
        )  # fmt: skip

    def events(self, about: str) -> list[Object]:
        """The events about an object of this namespace."""
        return [e for e in self.kubectl.list("events", self.name) if e.get("involvedObject", {}).get("name") == about]


def durable_copy(volume: Path, job: Job) -> Any:
    """The whisper JSON that the runner left on the shared volume."""
    return json.loads((volume / "transcripts" / job.namespace / job.name / f"{job.name}.json").read_text())
