"""What each namespace's PersistentVolume says of the one shared volume: what CSI drivers take as a volume's handle.

The node keeps its books by driver and handle. Two PersistentVolumes with one handle in one pod never get mounted
(kubernetes/kubernetes#132921), and several drivers ask that a handle be unique in the cluster. So a namespace's handle
is made its own wherever the driver reads the volume's place from elsewhere; where the handle is the place, it stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

AS_DRIVER, SAME, PER_NAMESPACE = "", "Same", "PerNamespace"
"""Values of the setting `cache.volumeHandles`."""
CHOICES = (AS_DRIVER, SAME, PER_NAMESPACE)

Rule = Callable[[str, str, Mapping[str, Any]], str]
"""handle, namespace, volumeAttributes -> the namespace's handle"""


def _same(handle: str, _namespace: str, _attributes: Mapping[str, Any]) -> str:
    return handle


def _suffixed(handle: str, namespace: str, _attributes: Mapping[str, Any]) -> str:
    return f"{handle}-{namespace}"


def _azure_files(handle: str, namespace: str, attributes: Mapping[str, Any]) -> str:
    """`group#account#share#disk#anything…`: the fifth field is there for this. Free text must be without `#`."""
    fields = handle.split("#")
    if len(fields) < 3:
        return _suffixed(handle, namespace, attributes)
    if not fields[0]:
        return handle  # without a group the fifth field names the Secret's namespace
    fields += [""] * (5 - len(fields))
    fields[4] = f"{fields[4]}-{namespace}".lstrip("-")
    return "#".join(fields)


def _ceph(handle: str, namespace: str, attributes: Mapping[str, Any]) -> str:
    """Free text for a static volume, whose place is `rootPath`; else the driver decodes the place from it."""
    rule = _suffixed if str(attributes.get("staticVolume")).lower() == "true" else _same
    return rule(handle, namespace, attributes)


RULES: dict[str, Rule] = {
    # fs-…[:path[:fsap-…]], and nothing besides; several volumes with one handle are fine (aws-efs-csi-driver#254).
    "efs.csi.aws.com": _same,
    # modeInstance/zone/instance/share
    "filestore.csi.storage.gke.io": _same,
    # The place is in volumeAttributes: server and share, source, shareName, the Secret of the file system.
    "nfs.csi.k8s.io": _suffixed,
    "smb.csi.k8s.io": _suffixed,
    "csi.juicefs.com": _suffixed,
    "file.csi.azure.com": _azure_files,
    "cephfs.csi.ceph.com": _ceph,
}


def _rule(driver: str) -> Rule | None:
    """A driver's rule; Rook puts the cluster's name before ceph's."""
    return RULES.get(driver) or (_ceph if driver.endswith(".cephfs.csi.ceph.com") else None)


def refusal(source: Mapping[str, Any], choice: str) -> str | None:
    """Why a choice of `cache.volumeHandles` cannot be had with this volume, or None."""
    if choice not in CHOICES:
        return f"{choice!r} is none of {SAME}, {PER_NAMESPACE}, or empty for the driver's own rule"
    driver = str((source.get("csi") or {}).get("driver") or "")
    if choice == PER_NAMESPACE and _rule(driver) is _same:
        return f"the handle of {driver} is the volume's place and takes no addition: leave this setting out"
    return None


def source_for(source: Mapping[str, Any], namespace: str, choice: str = AS_DRIVER) -> dict[str, Any]:
    """The source of a namespace's PersistentVolume: the shared volume's own, its CSI handle as the driver takes it.

    In-tree volumes (nfs, hostPath, local) have no handle. A driver that is not known here keeps its handle unless
    `choice` says PerNamespace.
    """
    wanted = copy.deepcopy(dict(source))
    csi = wanted.get("csi")
    if not csi or choice == SAME:
        return wanted
    rule = _rule(str(csi.get("driver") or "")) or (_suffixed if choice == PER_NAMESPACE else _same)
    csi["volumeHandle"] = rule(str(csi.get("volumeHandle") or ""), namespace, csi.get("volumeAttributes") or {})
    return wanted
