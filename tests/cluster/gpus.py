"""Keeps a node saying that it has GPUs, though there are none behind them.

kubelet drops an extended resource that no device plugin offers whenever it starts anew, so a process of its own looks
again and again: `python -m tests.cluster.gpus KUBECONFIG NODE`.
"""

from __future__ import annotations

import http.client
import sys
import time
from pathlib import Path

from tests.cluster.api import Api, ApiError

COUNT = 2
RESOURCE = "nvidia.com/gpu"
ANNOTATION = "transcription.dev/no-gpu"
NOTICE = f"this test node advertises {COUNT} {RESOURCE}, and there is no GPU behind them"
_SECONDS = 3.0


def advertised(node: dict[str, dict[str, dict[str, str]]]) -> bool:
    """Whether pods that ask for a GPU can be placed on the node."""
    return node["status"].get("allocatable", {}).get(RESOURCE) == str(COUNT)


def advertise(api: Api, name: str) -> None:
    """Say it where it is not said; allocatable alone would follow only some seconds later."""
    path = f"/api/v1/nodes/{name}"
    node = api.get(path)
    if advertised(node):
        return
    key = RESOURCE.replace("/", "~1")
    api.patch(
        f"{path}/status",
        [{"op": "add", "path": f"/status/{kind}/{key}", "value": str(COUNT)} for kind in ("capacity", "allocatable")],
    )
    annotations = {**node["metadata"].get("annotations", {}), ANNOTATION: NOTICE}
    api.patch(path, [{"op": "add", "path": "/metadata/annotations", "value": annotations}])


def main() -> None:
    """Until the end."""
    kubeconfig, name = sys.argv[1:]
    api = Api(Path(kubeconfig))
    while True:
        try:
            advertise(api, name)
            time.sleep(_SECONDS)
        except (OSError, ApiError, http.client.HTTPException):
            time.sleep(0.1)


if __name__ == "__main__":
    main()
