"""`make demo`: a TranscriptionJob for a person's recording, end to end, on a Kubernetes that this starts.

Everything in it is real (the API server, the kubelet, the containers, the chart, OpenAI's weights, the reader's voice),
but for the GPU: the node says that it has two, and the runner falls back to the CPU.
"""

from __future__ import annotations

import json
import re
import subprocess
import time

import yaml

from tests import cluster as clusters
from tests import deployment, levels
from tests.cluster import images, tools
from tests.deployment import Deployment
from tests.kubectl import Kubectl, Object, eventually
from tests.materials import hub, recordings

NAMESPACE = "demo"
NAME = "interview"
PATIENCE = 300


def say(text: str) -> None:
    """One step, as people read it."""
    print(f"\n==> {text}", flush=True)


def make_parts() -> None:
    """Makes the binaries, the weights and the images side by side, where they are not there yet."""
    if subprocess.run(levels.module("tests.cluster", "system"), cwd=levels.ROOT).returncode:
        raise SystemExit(1)
    for name, seconds in levels.prepare_all(levels.PREPARATIONS.values()):
        print(f"    {name}: ready ({seconds:.0f} s)", flush=True)


def readable(result: Object) -> str:
    """Whisper's JSON with the numbers of a list on one line."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([\d\s,]+?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)


def main() -> int:
    """Runs the demo; returns 0 if the transcript came back."""
    started = time.monotonic()
    say("the parts: made once (12 minutes and more), then kept in the cache")
    make_parts()

    say("a single-node Kubernetes")
    cluster = clusters.up()
    kubectl = Kubectl(tools.binary("kubectl"), cluster.kubeconfig)
    print(f"    up; for your own kubectl: export KUBECONFIG={cluster.kubeconfig}", flush=True)

    say("the images, into its containerd")
    built = images.load(cluster, images.build())

    with hub.serve(hub.whisper(), host=cluster.host_address) as server:
        say("helm upgrade --install transcription-operator helm/transcription-operator")
        operator = Deployment(cluster, kubectl, tools.binary("helm"))
        values = deployment.values(
            operator_image=built.operator, runner_image=built.runner, volume=cluster.volume_root, hub=server.url
        )
        print(operator.install(values), flush=True)

        folder = deployment.recordings_folder(cluster)
        recording = deployment.place(recordings.dashwood(), folder)
        kubectl.delete("tj", NAME, NAMESPACE) if kubectl.get("namespace", NAMESPACE) else None
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        kubectl.apply(*deployment.recordings_claim(NAMESPACE, folder))
        manifest = deployment.transcription_job(NAME, NAMESPACE, audio=recording)
        say("kubectl apply -f - <<EOF\n" + yaml.safe_dump(manifest, sort_keys=False) + "EOF")
        kubectl.apply(manifest)

        resource = eventually(
            lambda: kubectl.get("tj", NAME, NAMESPACE) or {},
            lambda r: r.get("status", {}).get("phase") in ("Succeeded", "Failed"),
            what="the transcript", seconds=PATIENCE,
        )  # fmt: skip

    say(f"kubectl -n {NAMESPACE} get tj")
    print(kubectl.run("-n", NAMESPACE, "get", "tj"), flush=True)
    if resource["status"]["phase"] != "Succeeded":
        print(yaml.safe_dump(resource["status"], allow_unicode=True))
        return 1
    say(f"kubectl -n {NAMESPACE} get tj {NAME} -o jsonpath='{{.status.result}}'")
    print(readable(resource["status"]["result"]))
    say(f"done in {time.monotonic() - started:.0f} s; the cluster stays up (make cluster-down ends it)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
