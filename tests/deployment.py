"""The operator, installed with its chart as a user would: shared by the demo and the end-to-end tests."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kubectl import Kubectl, Object

if TYPE_CHECKING:
    from tests.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "transcription-operator"
NAMESPACE = "transcription-system"
RELEASE = "transcription-operator"


@dataclasses.dataclass(frozen=True)
class Deployment:
    """The chart's release on a cluster."""

    cluster: Cluster
    kubectl: Kubectl
    helm_binary: Path

    def helm(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs helm against the cluster; raises with what it said."""
        command = [str(self.helm_binary), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stderr.strip()}\n{self.explain()}")
        return done.stdout

    def install(self, values: dict[str, Any]) -> str:
        """Installs or upgrades the release, waits until the operator is ready, returns helm's words (NOTES)."""
        return self.helm(
            "upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace",
            "--wait", "--timeout", "180s", "--values", "-", stdin=json.dumps(values),
        )  # fmt: skip

    def uninstall(self) -> None:
        """Takes the release away; the CRDs and what users made stay."""
        self.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")

    def explain(self) -> str:
        """What the operator's pod and its events say, for a failing test."""
        return "\n".join(
            self.kubectl.shown(*arguments)
            for arguments in (
                ("get", "pods,jobs,pvc,events", "-n", NAMESPACE),
                ("logs", "-n", NAMESPACE, f"deployment/{RELEASE}", "--tail=80"),
            )
        )


def values(
    *, operator_image: str, runner_image: str, volume: Path, hub: str, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The chart's values for the local cluster: a folder of the node as the shared volume, small requests."""

    def image(reference: str) -> dict[str, str]:
        repository, _, tag = reference.rpartition(":")
        return {"repository": repository, "tag": tag}

    small: dict[str, Any] = {
        "operator": {"image": image(operator_image)},
        "runner": {
            "image": image(runner_image),
            # The node says it has two GPUs and has none: a runner that asks for one falls back to the CPU.
            "resources": {
                "requests": {"cpu": "400m", "memory": "1Gi"},
                "limits": {"nvidia.com/gpu": 1, "memory": "6Gi"},
            },
        },
        "cache": {"volume": {"hostPath": {"path": str(volume)}}, "size": "10Gi"},
        "hub": {"endpoint": hub},
    }
    return merge(small, extra or {})


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid onto `base`, map by map."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def recordings_folder(cluster: Cluster) -> Path:
    """A folder of the node for people's recordings, beside the shared volume."""
    folder = cluster.volume_root.parent / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def place(recording: Path, folder: Path) -> str:
    """Copies a recording to where pods see it; returns its name there."""
    target = folder / recording.name
    if not target.exists() or target.stat().st_size != recording.stat().st_size:
        shutil.copyfile(recording, target)
        target.chmod(0o644)
    return target.name


def recordings_claim(namespace: str, folder: Path) -> list[Object]:
    """The PersistentVolume and claim `recordings` by which a namespace reads the recordings."""
    name = f"recordings-{namespace}"
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "transcription-tests"}},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": namespace, "name": "recordings"},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "recordings", "namespace": namespace},
            "spec": {**common, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]


def transcription_job(name: str, namespace: str, **spec: Any) -> Object:
    """A TranscriptionJob's manifest; `audio` may be the name of a file on the recordings' claim."""
    audio = spec.pop("audio")
    if isinstance(audio, str):
        audio = {"url": audio} if "://" in audio else {"volume": {"claimName": "recordings", "path": audio}}
    return {
        "apiVersion": "transcription.dev/v1alpha1",
        "kind": "TranscriptionJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"audio": audio, "model": "base", **spec},
    }
