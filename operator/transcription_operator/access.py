"""Gives a namespace what runner pods need, when it is first needed and whenever it is missing."""

from __future__ import annotations

import time

from transcription_operator import api as k8s
from transcription_operator import names
from transcription_operator.api import Api, ApiError, Kind, Object
from transcription_operator.errors import Conflict, NamespaceGone
from transcription_operator.manifests import namespace as manifests
from transcription_operator.settings import Settings

_BINDER_PATIENCE = 2.0


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


def ensure_cache(api: Api, namespace: str, settings: Settings) -> None:
    """The PV/PVC pair onto the shared volume, and the CA bundle."""
    claim = api.get(k8s.CLAIMS, names.CACHE_CLAIM, namespace)
    _ensure_volume(api, namespace, settings, claim)
    if claim is None:
        _wait_for_volume(api, names.cache_volume_name(namespace))
        create(api, k8s.CLAIMS, manifests.cache_claim(namespace, settings), namespace)
    if settings.runner.ca_bundle:
        wanted = manifests.ca_config_map(namespace, settings)
        found = _ensure(api, k8s.CONFIG_MAPS, wanted, namespace)
        if found.get("data") != wanted["data"]:
            api.patch(k8s.CONFIG_MAPS, {"data": wanted["data"]}, names.CA_CONFIG_MAP, namespace)


def _ensure_volume(api: Api, namespace: str, settings: Settings, claim: Object | None) -> None:
    name = names.cache_volume_name(namespace)
    found = api.get(k8s.VOLUMES, name)
    if found is not None:
        labels = found["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
            raise Conflict(f"A PersistentVolume {name} exists that the operator did not make; delete or rename it.")
        bound_to = (found["spec"].get("claimRef") or {}).get("uid")
        current = claim["metadata"]["uid"] if claim else None
        if not bound_to or bound_to == current:
            return
        # It was bound to a claim that is gone, and never binds again. Retain keeps the data: only the object goes.
        api.delete(k8s.VOLUMES, name, uid=found["metadata"]["uid"])
    if create(api, k8s.VOLUMES, manifests.cache_volume(namespace, settings), None) is None and found is not None:
        raise ApiError(409, "StillThere", f"PersistentVolume {name} is being deleted")


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
