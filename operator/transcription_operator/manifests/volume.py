"""The shared volume in one namespace: its PersistentVolume, its claim, and whether one that exists is the same."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transcription_operator import names
from transcription_operator.manifests import Manifest, handles
from transcription_operator.settings import CacheSettings, Settings

_NOT_A_SOURCE = {
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
}
RECLAIM_POLICY = "Retain"


@dataclass(frozen=True)
class SharedVolume:
    """Where the one volume is, whether the settings say so or a storage class has made it."""

    source: Mapping[str, Any]
    mount_options: tuple[str, ...] = ()
    node_affinity: Mapping[str, Any] | None = None


def of_settings(cache: CacheSettings) -> SharedVolume:
    """The volume that the settings name."""
    return SharedVolume(cache.volume, cache.mount_options, cache.node_affinity)


def of_volume(spec: Mapping[str, Any]) -> SharedVolume:
    """The volume that a PersistentVolume, made by a storage class, stands for."""
    source = {key: value for key, value in spec.items() if key not in _NOT_A_SOURCE}
    return SharedVolume(source, tuple(spec.get("mountOptions") or ()), spec.get("nodeAffinity"))


def persistent_volume(namespace: str, shared: SharedVolume, settings: Settings) -> Manifest:
    """The shared volume as this namespace's PersistentVolume, reserved for its claim; the data outlives it."""
    spec: Manifest = {
        **handles.source_for(shared.source, namespace, settings.cache.volume_handles),
        "capacity": {"storage": settings.cache.size},
        "accessModes": list(settings.cache.access_modes),
        "persistentVolumeReclaimPolicy": RECLAIM_POLICY,
        "storageClassName": "",
        "volumeMode": "Filesystem",
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": names.CACHE_CLAIM,
            "namespace": namespace,
        },
    }
    if shared.mount_options:
        spec["mountOptions"] = list(shared.mount_options)
    if shared.node_affinity:
        spec["nodeAffinity"] = copy.deepcopy(dict(shared.node_affinity))
    metadata = {
        "name": names.cache_volume_name(namespace),
        "labels": names.labels("transcription-namespace", "cache"),
        "annotations": {names.ANNOTATION_VOLUME: _digest(spec)},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def _claim(namespace: str, settings: Settings, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.CACHE_CLAIM,
            "namespace": namespace,
            "labels": names.labels("transcription-namespace", "cache"),
        },
        "spec": {
            "accessModes": list(settings.cache.access_modes),
            "resources": {"requests": {"storage": settings.cache.size}},
            "volumeMode": "Filesystem",
            **spec,
        },
    }


def claim(namespace: str, settings: Settings) -> Manifest:
    """The claim that pods name, onto the namespace's own PersistentVolume."""
    return _claim(namespace, settings, storageClassName="", volumeName=names.cache_volume_name(namespace))


def claim_of_class(settings: Settings) -> Manifest:
    """The claim in the operator's namespace for which a storage class makes the shared volume."""
    return _claim(settings.namespace, settings, storageClassName=settings.cache.storage_class)


def _digest(spec: Mapping[str, Any]) -> str:
    """What tells one volume from another, whatever the API server fills in or leaves out."""
    shared = of_volume(spec)
    told = [shared.source, list(shared.mount_options), shared.node_affinity or None]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def difference(found: Manifest, wanted: Manifest) -> str | None:
    """How a PersistentVolume that exists differs from the one that is wanted; None if it was made of the same.

    Its source can never be changed: a volume that differs has to be made anew.
    """
    marks = [(each["metadata"].get("annotations") or {}).get(names.ANNOTATION_VOLUME) for each in (found, wanted)]
    if None in marks or marks[0] == marks[1]:
        return None
    before, after = of_volume(found["spec"]), of_volume(wanted["spec"])
    for kind in sorted({*before.source, *after.source}):
        one, other = before.source.get(kind) or {}, after.source.get(kind) or {}
        for name in sorted({*one, *other}):
            if (one.get(name) or None) != (other.get(name) or None):
                return f"its {kind}.{name} is {one.get(name)!r} and should be {other.get(name)!r}"
    return "its mountOptions or its nodeAffinity are others"
