"""How long a job takes from `kubectl apply` to its result, by the way that its model comes to the pod.

    python -m bench.ways [--model base] [--rounds 3]

On this checkout's node (tests/cluster): the shared volume (with the download from a Hub on this machine, and once the
model is there), an object store as the model's source (an S3 server on this machine; the same two), and the model baked
into the runner's image. Every round begins each way anew. Prints a table for bench/results/ways.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import cluster as clusters
from tests import deployment
from tests.cluster import images, tools
from tests.deployment import Deployment, merge
from tests.e2e.world import Job, Namespace
from tests.kubectl import Kubectl, eventually
from tests.materials import hub, recordings, servers, weights
from tests.materials.pins import WEIGHTS

NAMESPACE = "bench-ways"
KEYS = "bench-ways"
FROM_STORE = "from-store"


@dataclass
class Times:
    """Seconds from `apply`: until the model is there, until the runner's container runs, until the end."""

    model: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)

    def row(self, way: str) -> str:
        """The medians, and the spread of the whole."""
        cells = [f"{statistics.median(values):.1f}" for values in (self.model, self.running, self.done)]
        return f"| {way} | {' | '.join(cells)} | {min(self.done):.1f} to {max(self.done):.1f} |"


def seconds(text: str) -> float:
    """An API server's time."""
    return datetime.fromisoformat(text).timestamp()


class Bench:
    """The release, and a namespace with a recording."""

    def __init__(self, cluster: clusters.Cluster, model: str) -> None:
        self.kubectl = Kubectl(tools.binary("kubectl"), cluster.kubeconfig)
        self.operator = Deployment(cluster, self.kubectl, tools.binary("helm"))
        self.namespace = Namespace(self.kubectl, NAMESPACE, deployment.recordings_folder(cluster))
        self.model = model
        self.times: dict[str, Times] = {}
        self._number = 0

    def job(self, way: str, model: str, *before: dict[str, Any]) -> None:
        """One job, from its `apply` (with what is applied before it) to its end."""
        self._number += 1
        began = time.time()
        if before:
            self.kubectl.apply(*before)
        job = self.namespace.job(f"way-{self._number}", recording=recordings.dashwood(), model=model)
        model_ready = self._model_ready(job) - began
        job.succeeded()
        done = time.time() - began
        [pod] = self.kubectl.list("pods", NAMESPACE, f"transcription.dev/job={job.name}")
        state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        times = self.times.setdefault(way, Times())
        times.model.append(max(0.0, model_ready))
        times.running.append(max(0.0, seconds(state["startedAt"]) - began))
        times.done.append(done)
        print(f"{way}: {done:.1f} s", flush=True)

    @staticmethod
    def _model_ready(job: Job) -> float:
        def ready(resource: dict[str, Any]) -> bool:
            conditions = (resource.get("status") or {}).get("conditions") or []
            return any(c["type"] == "ModelReady" and c["status"] == "True" for c in conditions)

        job.until(ready, "its model is there")
        return time.time()

    def forget_models(self) -> None:
        """Empty the cache."""
        self.kubectl.run("delete", "wm", "--all")
        eventually(lambda: self.kubectl.list("whispermodels"), lambda left: not left, what="the models go")


def store_model(url: str) -> dict[str, Any]:
    """A WhisperModel of an object store."""
    return {
        "apiVersion": "transcription.dev/v1alpha1",
        "kind": "WhisperModel",
        "metadata": {"name": FROM_STORE},
        "spec": {"source": {"url": url}, "credentialsSecret": {"name": KEYS}},
    }


def secret(entries: dict[str, str]) -> dict[str, Any]:
    """The store's keys, where the downloads are."""
    metadata = {"name": KEYS, "namespace": deployment.NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries}


def files_of(model: str) -> dict[str, Path]:
    """What is put into the bucket: keys and files."""
    return {f"model/{path.name}": path for path in weights.repository(model).iterdir() if path.suffix != ".bin"}


def measure(bench: Bench, values: dict[str, Any], baked: dict[str, Any], url: str, rounds: int) -> None:
    """Every way, round by round; the baked image's rounds come last, for they need another release."""
    bench.operator.install(values)
    for _ in range(rounds):
        bench.forget_models()
        bench.job("shared volume, first job (download)", bench.model)
        bench.job("shared volume, model there", bench.model)
        bench.forget_models()
        bench.job("object store, first job (copy)", FROM_STORE, store_model(url))
        bench.job("object store, model there", FROM_STORE)
    bench.forget_models()
    bench.operator.install(baked)
    for _ in range(rounds):
        bench.job("baked image", bench.model)
    bench.operator.install(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base", choices=sorted(WEIGHTS))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    cluster = clusters.up()
    repo = WEIGHTS[asked.model].repo
    built = images.load(cluster, images.build())
    with (
        hub.serve(hub.whisper(), host=cluster.host_address) as serving,
        servers.s3_server(files=files_of(asked.model), host=cluster.host_address) as store,
    ):
        [image] = images.load_each(cluster, [images.build_baked([repo], serving.url)])
        repository, _, tag = image.rpartition(":")
        values = deployment.values(
            operator_image=built.operator, runner_image=built.runner, volume=cluster.volume_root, hub=serving.url
        )
        runner = {"image": {"repository": repository, "tag": tag}, "bakedModels": [repo]}
        baked = merge(values, {"runner": runner, "cache": {"volume": {"hostPath": None}}})
        bench = Bench(cluster, asked.model)
        bench.namespace.remove(wait=True)
        bench.namespace.create()
        bench.kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": deployment.NAMESPACE}},
            secret(store.environment),
        )
        try:
            measure(bench, values, baked, f"s3://{store.bucket}/model", asked.rounds)
        finally:
            bench.namespace.remove(wait=False)
        sizes = [images.storage().size(f"localhost/{name}") / 1e6 for name in (built.runner, image)]
    megabytes = sum(path.stat().st_size for path in files_of(asked.model).values()) / 1e6
    print(
        f"\n{repo} ({megabytes:.0f} MB), {asked.rounds} rounds, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} "
        f"processors ({platform.machine()}), load {os.getloadavg()[1]:.1f}\n"
    )
    print("| way | model there, s | runner runs, s | result, s (median) | of all rounds |\n|---|---|---|---|---|")
    for way, times in bench.times.items():
        print(times.row(way))
    print(f"\nrunner's image {sizes[0]:.0f} MB, with the model {sizes[1]:.0f} MB")


if __name__ == "__main__":
    main()
