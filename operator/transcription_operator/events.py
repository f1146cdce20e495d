"""Kubernetes Events: one for each transition of a condition, and for no other reason."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from transcription_operator import api as k8s
from transcription_operator import names
from transcription_operator.api import Api, ApiError, Object
from transcription_operator.conditions import COMPLETE, FAILED, MODEL_READY, READY, STARTED, VERIFIED, Transition

_log = logging.getLogger(__name__)
_NOTE_LIMIT = 1024
_UNDER_WAY = ("Downloading", "Repairing", "Verifying", "Evicting", "Evicted", "Removing", "Removed")
_QUIET = {(STARTED, "JobCreated"), *((kind, reason) for kind in (MODEL_READY, READY) for reason in _UNDER_WAY)}
_ACTIONS = {
    MODEL_READY: "PrepareModel",
    READY: "PrepareModel",
    VERIFIED: "VerifyModel",
    STARTED: "Start",
    COMPLETE: "Finish",
    FAILED: "Finish",
}
_CLUSTER_WIDE = "default"
"""Where the events of resources without a namespace go."""


@dataclass(frozen=True)
class Regarding:
    """Whom an event is about."""

    kind: str
    namespace: str | None
    name: str
    uid: str
    resource_version: str


def _severity(transition: Transition) -> str:
    if transition.type == FAILED:
        return "Warning"
    bad = transition.status == "False" and transition.type in (STARTED, MODEL_READY, READY, VERIFIED)
    return "Warning" if bad and (transition.type, transition.reason) not in _QUIET else "Normal"


def build(about: Regarding, transition: Transition) -> Object:
    """The event of a transition. Its name is the transition's own, so that it is posted once."""
    digest = hashlib.sha256(repr((about.uid, transition, about.resource_version)).encode()).hexdigest()
    regarding = {"apiVersion": names.API_VERSION, "kind": about.kind, "name": about.name, "uid": about.uid}
    if about.namespace:
        regarding["namespace"] = about.namespace
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name[:230]}.{digest[:16]}", "namespace": about.namespace or _CLUSTER_WIDE},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": names.FIELD_MANAGER,
        "action": _ACTIONS.get(transition.type, transition.type),
        "reason": transition.reason,
        "type": _severity(transition),
        "note": transition.message[:_NOTE_LIMIT],
        "regarding": regarding,
    }


def post(api: Api, about: Regarding, transitions: list[Transition]) -> None:
    """Post events; a failure to do so is no reason to stop."""
    for transition in transitions:
        try:
            api.create(k8s.EVENTS, build(about, transition), about.namespace or _CLUSTER_WIDE)
        except ApiError as error:
            if not error.already_exists and not error.namespace_gone:
                _log.warning("no event for %s/%s: %s", about.namespace or _CLUSTER_WIDE, about.name, error)
