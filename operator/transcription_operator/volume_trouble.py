"""Why a pod's volume cannot be mounted, from the words of Kubernetes, the node and the driver: a reason, and advice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class VolumeTrouble:
    """One kind of trouble with a volume."""

    reason: str
    """Of the condition."""
    advice: str
    """What to do."""


_NOT_BOUND = VolumeTrouble(
    "VolumeNotBound", "Check that the claims it names exist and are Bound (kubectl get pvc; kubectl describe pvc)."
)
_KINDS: tuple[tuple[str, VolumeTrouble], ...] = (
    (
        r"not found in the list of registered CSI drivers|CSINode .* does not contain driver",
        VolumeTrouble(
            "VolumeDriverMissing",
            "The node has no such CSI driver: install it, see that its DaemonSet has a pod on this node, and compare "
            "cache.volume.csi.driver with kubectl get csidrivers.",
        ),
    ),
    (
        r"access denied by server|mount\.nfs\d?: Operation not permitted|mount error\(13\)",
        VolumeTrouble(
            "VolumeAccessDenied",
            "The file server refuses this node: check its export list, its security group or firewall, and for EFS the "
            "file system's policy and the role of the driver.",
        ),
    ),
    (
        r"wrong fs type, bad option|unknown filesystem type|you might need a /sbin/mount",
        VolumeTrouble(
            "VolumeMountFailed",
            "The node has no helper for this kind of file system: install it there (nfs-common, cifs-utils), and check "
            "cache.mountOptions.",
        ),
    ),
    (
        r"is not a directory|hostPath type check failed|path .* does not exist|special device .* does not exist"
        r"|No such file or directory",
        VolumeTrouble(
            "VolumeMissing",
            "The folder or export is not there: make it, owned by 10001:10001 (mode 755), or correct cache.volume.",
        ),
    ),
    (
        r"Failed to resolve|mount target|Name or service not known|No route to host|Connection refused"
        r"|Connection timed out|timed out|timeout expired|DeadlineExceeded|context deadline exceeded",
        VolumeTrouble(
            "VolumeUnreachable",
            "The file server does not answer this node: check its address, port 2049 in security groups and firewalls, "
            "and for EFS that a mount target is in the node's availability zone.",
        ),
    ),
    (r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim .* (not found|is being deleted)", _NOT_BOUND),
    (
        r"FailedMount|FailedAttachVolume|FailedMapVolume|MountVolume|UnmountVolume",
        VolumeTrouble(
            "VolumeMountFailed",
            "Check that the cache's volume can be mounted: cache.volume and cache.mountOptions in the chart's values.",
        ),
    ),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), trouble) for pattern, trouble in _KINDS)
REASONS = tuple(dict.fromkeys(trouble.reason for _, trouble in _KINDS))


def explain(words: str) -> VolumeTrouble | None:
    """The trouble with a volume that events or a condition speak of; None if they speak of something else."""
    if not re.search(r"mount|volume|claim|attach", words, re.IGNORECASE):
        return None
    return next((trouble for pattern, trouble in _PATTERNS if pattern.search(words)), None)
