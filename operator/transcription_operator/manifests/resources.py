"""A pod's resources: the settings' defaults with a job's own wishes on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transcription_operator.manifests import quantity

GPU = "nvidia.com/gpu"


def _is_gpu(name: str) -> bool:
    return name.startswith("nvidia.com/") or name.endswith("/gpu")


def _is_more(one: object, other: object) -> bool:
    try:
        return quantity.parse(one) > quantity.parse(other)
    except ValueError:
        return False  # the API server refuses it with better words


def merge(defaults: Mapping[str, Any], wishes: Mapping[str, Any], *, device: str) -> dict[str, Any]:
    """Merge requests and limits so that the API server takes the result.

    What a user names wins; a default that would contradict it (a request above its limit, a limit below its
    request) gives way. `device: cpu` drops the defaults' GPU, `device: cuda` makes sure of one.
    """
    requests = dict(defaults.get("requests") or {})
    limits = dict(defaults.get("limits") or {})
    if device == "cpu":
        requests = {name: value for name, value in requests.items() if not _is_gpu(name)}
        limits = {name: value for name, value in limits.items() if not _is_gpu(name)}
    wished_requests = dict(wishes.get("requests") or {})
    wished_limits = dict(wishes.get("limits") or {})
    requests |= wished_requests
    limits |= wished_limits
    if device == "cuda" and not any(_is_gpu(name) for name in limits):
        limits[GPU] = requests.get(GPU, 1)
    for name in sorted(set(requests) & set(limits)):
        if "/" in name:  # extended resources: request and limit must be the same
            value = wished_limits.get(name, wished_requests.get(name, limits[name]))
            requests[name] = limits[name] = value
        elif _is_more(requests[name], limits[name]):
            if name in wished_limits and name not in wished_requests:
                requests[name] = limits[name]
            elif name in wished_requests and name not in wished_limits:
                limits[name] = requests[name]
    rest = {k: v for k, v in {**defaults, **wishes}.items() if k not in ("requests", "limits")}
    merged = {**rest, "requests": requests, "limits": limits}
    return {name: value for name, value in merged.items() if value}
