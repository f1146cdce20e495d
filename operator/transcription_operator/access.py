"""Gives a namespace what runner pods need, when it is first needed and whenever it is missing."""

from __future__ import annotations

import logging
import time
from typing import NoReturn

from transcription_operator import api as k8s
from transcription_operator import names
from transcription_operator.api import Api, ApiError, Kind, Object
from transcription_operator.errors import Conflict, NamespaceGone
from transcription_operator.manifests import namespace as manifests
from transcription_operator.manifests import volume as volumes
from transcription_operator.manifests.volume import SharedVolume
from transcription_operator.settings import Settings

_log = logging.getLogger(__name__)
_BINDER_PATIENCE = 2.0
NOT_READY, CHANGED = "VolumeNotReady", "VolumeChanged"
"""Reasons of Started while a namespace has no shared volume that can be used."""
_OURS = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_COMPONENT}=cache"


def create(api: Api, kind: Kind, body: Object, namespace: str | None) -> Object | None:
    """Create an object; None if one of its name is there; NamespaceGone if its namespace is not."""
    try:
        return api.create(kind, body, namespace)
    except ApiError as error:
        if error.already_exists:
            return None
        if error.namespace_gone:
            raise NamespaceGone(namespace) from error
        raise


def _ensure(api: Api, kind: Kind, body: Object, namespace: str | None) -> Object:
    name = body["metadata"]["name"]
    found = api.get(kind, name, namespace)
    if found is not None:
        return found
    return create(api, kind, body, namespace) or api.get(kind, name, namespace) or body


def require_volume(settings: Settings) -> None:
    """Raises Conflict where there is no shared volume for a model to be in."""
    if not settings.cache.shared:
        raise Conflict(
            "The operator has no shared volume, so a WhisperModel has no place: give it a cache.volume, or use the "
            "models of the runner's image (runner.bakedModels).",
            reason=NOT_READY,
        )


def ensure_cache(api: Api, namespace: str, settings: Settings) -> None:
    """The PV/PVC pair onto the shared volume, where there is one, and the CA bundle."""
    if settings.cache.storage_class and namespace == settings.namespace:
        _made_by_class(api, settings)
    elif settings.cache.shared:
        _ensure_pair(api, namespace, _shared_volume(api, settings), settings)
    if settings.runner.ca_bundle:
        wanted = manifests.ca_config_map(namespace, settings)
        found = _ensure(api, k8s.CONFIG_MAPS, wanted, namespace)
        if found.get("data") != wanted["data"]:
            api.patch(k8s.CONFIG_MAPS, {"data": wanted["data"]}, names.CA_CONFIG_MAP, namespace)


def _made_by_class(api: Api, settings: Settings) -> Object | None:
    """The PersistentVolume that the storage class has made for the operator's own claim; None if not yet."""
    own = _ensure(api, k8s.CLAIMS, volumes.claim_of_class(settings), settings.namespace)
    _see_that_it_is(own, settings.namespace, storageClassName=settings.cache.storage_class)
    name = own["spec"].get("volumeName")
    found = api.get(k8s.VOLUMES, name) if name else None
    if found is not None and found["spec"].get("persistentVolumeReclaimPolicy") != volumes.RECLAIM_POLICY:
        # Every namespace's transcripts are on it: they must not go with one claim.
        body = {"spec": {"persistentVolumeReclaimPolicy": volumes.RECLAIM_POLICY}}
        api.patch(k8s.VOLUMES, body, found["metadata"]["name"])
    return found


def _shared_volume(api: Api, settings: Settings) -> SharedVolume:
    """Where the shared volume is."""
    if not settings.cache.storage_class:
        return volumes.of_settings(settings.cache)
    found = _made_by_class(api, settings)
    if found is None:
        raise Conflict(
            f"The shared volume is not there yet: claim {settings.namespace}/{names.CACHE_CLAIM} waits for storage "
            f"class {settings.cache.storage_class} to make it (kubectl -n {settings.namespace} describe pvc "
            f"{names.CACHE_CLAIM}). With volumeBindingMode WaitForFirstConsumer that is when the first model is "
            "downloaded.",
            reason=NOT_READY,
        )
    return volumes.of_volume(found["spec"])


def _see_that_it_is(claim: Object, namespace: str, **wanted: str) -> None:
    """A claim of our name that other settings have led to, and whose data may go with it, is a person's to delete."""
    for field, value in wanted.items():
        found = claim["spec"].get(field) or ""
        if found != value:
            raise Conflict(
                f"Claim {namespace}/{names.CACHE_CLAIM} is not what the operator's settings ask for (cache): its "
                f"{field} is {found!r} and should be {value!r}. If nothing on its volume is needed any more, or the "
                f"volume is retained: kubectl -n {namespace} delete pvc {names.CACHE_CLAIM}; it is then made anew.",
                reason=CHANGED,
            )


def _ensure_pair(api: Api, namespace: str, shared: SharedVolume, settings: Settings) -> None:
    claim = api.get(k8s.CLAIMS, names.CACHE_CLAIM, namespace)
    wanted = volumes.claim(namespace, settings)
    if claim is not None:
        if "deletionTimestamp" in claim["metadata"]:
            _let_go(api, namespace)
            raise Conflict(
                f"Claim {namespace}/{names.CACHE_CLAIM} is being deleted, which ends with the last pod that uses it; "
                "then it is made anew.",
                reason=NOT_READY,
            )
        _see_that_it_is(claim, namespace, volumeName=wanted["spec"]["volumeName"])
    _ensure_volume(api, namespace, volumes.persistent_volume(namespace, shared, settings), claim)
    if claim is None:
        _wait_for_volume(api, names.cache_volume_name(namespace))
        create(api, k8s.CLAIMS, wanted, namespace)


def _ensure_volume(api: Api, namespace: str, wanted: Object, claim: Object | None) -> None:
    name = wanted["metadata"]["name"]
    found = api.get(k8s.VOLUMES, name)
    if found is not None:
        labels = found["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
            raise Conflict(f"A PersistentVolume {name} exists that the operator did not make; delete or rename it.")
        bound_to = (found["spec"].get("claimRef") or {}).get("uid")
        current = claim["metadata"]["uid"] if claim else None
        difference = volumes.difference(found, wanted)
        if difference and claim is not None:
            _give_up(api, namespace, found, claim, difference)
        if not difference and (not bound_to or bound_to == current):
            return
        # It was bound to a claim that is gone, and never binds again. Retain keeps the data: only the object goes.
        api.delete(k8s.VOLUMES, name, uid=found["metadata"]["uid"])
    if create(api, k8s.VOLUMES, wanted, None) is None and found is not None:
        raise ApiError(409, "StillThere", f"PersistentVolume {name} is being deleted")


def _give_up(api: Api, namespace: str, found: Object, claim: Object, difference: str) -> NoReturn:
    """Take away a pair onto the volume that the settings named before, once no pod uses it; the data stays there."""
    name = found["metadata"]["name"]
    changed = f"PersistentVolume {name} is not what the operator's settings ask for (cache): {difference}."
    pods = api.list(k8s.PODS, namespace)
    users = sorted(pod["metadata"]["name"] for pod in pods if _mounts_cache(pod) and not _is_over(pod))
    if users:
        raise Conflict(
            f"{changed} It is replaced as soon as no pod of namespace {namespace} uses it; now these do: "
            f"{', '.join(users[:5])}{' …' if len(users) > 5 else ''}.",
            reason=CHANGED,
        )
    _log.warning("%s No pod uses it: it is replaced. What is on the old volume stays there.", changed)
    api.delete(k8s.CLAIMS, names.CACHE_CLAIM, namespace, uid=claim["metadata"]["uid"])
    api.delete(k8s.VOLUMES, name, uid=found["metadata"]["uid"])
    _let_go(api, namespace)
    raise Conflict(f"{changed} No pod uses it, and it is being replaced.", reason=CHANGED)


def _let_go(api: Api, namespace: str) -> None:
    """Remove our Jobs whose pods are over: Kubernetes keeps a claim for as long as any pod names it.

    What came of them is told in their resources.
    """
    for pod in api.list(k8s.PODS, namespace):
        ours = (pod["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        if not (ours and _mounts_cache(pod) and _is_over(pod)):
            continue
        for owner in pod["metadata"].get("ownerReferences") or []:
            if owner["kind"] == "Job":
                api.delete(k8s.JOBS, owner["name"], namespace, uid=owner["uid"])


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _mounts_cache(pod: Object) -> bool:
    claims = ((v.get("persistentVolumeClaim") or {}).get("claimName") for v in pod["spec"].get("volumes") or [])
    return names.CACHE_CLAIM in claims


def is_abandoned(volume: Object, claim: Object | None) -> bool:
    """Whether a PersistentVolume of ours has outlived its claim: with Retain nobody else takes it away."""
    reserved = (volume["spec"].get("claimRef") or {}).get("uid")
    released = (volume.get("status") or {}).get("phase") == "Released"
    return released and reserved is not None and (claim is None or claim["metadata"]["uid"] != reserved)


def remove_abandoned_volumes(api: Api) -> None:
    """Delete the PersistentVolumes of namespaces that are gone. The data stays: it is on the shared volume."""
    for volume in api.list(k8s.VOLUMES, labels=_OURS):
        reference = volume["spec"].get("claimRef") or {}
        if not is_abandoned(volume, None):
            continue
        claim = api.get(k8s.CLAIMS, reference["name"], reference["namespace"])
        if is_abandoned(volume, claim):
            api.delete(k8s.VOLUMES, volume["metadata"]["name"], uid=volume["metadata"]["uid"])
            _log.info("%s is gone with its namespace's claim", volume["metadata"]["name"])


def _wait_for_volume(api: Api, name: str) -> None:
    """Give the volume binder time to see the volume: a claim that it sees first waits for its next round, 15 s."""
    until = time.monotonic() + _BINDER_PATIENCE
    while time.monotonic() < until:
        found = api.get(k8s.VOLUMES, name)
        if found and (found.get("status") or {}).get("phase") == "Available":
            return
        time.sleep(0.05)


def ensure_access(api: Api, namespace: str, settings: Settings) -> None:
    """Everything: identity, right to report, cache, CA bundle."""
    _ensure(api, k8s.SERVICE_ACCOUNTS, manifests.service_account(namespace), namespace)
    wanted = manifests.role_binding(namespace)
    found = _ensure(api, k8s.ROLE_BINDINGS, wanted, namespace)
    if found.get("roleRef") != wanted["roleRef"]:
        raise Conflict(
            f"A RoleBinding {names.ROLE_BINDING} exists in namespace {namespace} with another role; "
            "delete it, and the operator makes its own."
        )
    ensure_cache(api, namespace, settings)
