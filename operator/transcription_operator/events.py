"""Kubernetes Events: one for each transition of a condition, and for no other reason."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime

from transcription_operator import api as k8s
from transcription_operator import names
from transcription_operator.api import Api, ApiError, Object
from transcription_operator.conditions import COMPLETE, FAILED, MODEL_READY, STARTED, Transition
from transcription_operator.views import Observed

_log = logging.getLogger(__name__)
_NOTE_LIMIT = 1024
_QUIET = {(STARTED, "JobCreated"), (MODEL_READY, "Downloading"), (MODEL_READY, "Repairing")}
_ACTIONS = {MODEL_READY: "PrepareModel", STARTED: "Start", COMPLETE: "Finish", FAILED: "Finish"}


def _severity(transition: Transition) -> str:
    if transition.type == FAILED:
        return "Warning"
    bad = transition.status == "False" and transition.type in (STARTED, MODEL_READY)
    return "Warning" if bad and (transition.type, transition.reason) not in _QUIET else "Normal"


def build(observed: Observed, transition: Transition) -> Object:
    """The event of a transition. Its name is the transition's own, so that it is posted once."""
    digest = hashlib.sha256(repr((observed.uid, transition, observed.resource_version)).encode()).hexdigest()
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{observed.name[:230]}.{digest[:16]}", "namespace": observed.namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": names.FIELD_MANAGER,
        "action": _ACTIONS.get(transition.type, transition.type),
        "reason": transition.reason,
        "type": _severity(transition),
        "note": transition.message[:_NOTE_LIMIT],
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": observed.namespace,
            "name": observed.name,
            "uid": observed.uid,
        },
    }


def post(api: Api, observed: Observed, transitions: list[Transition]) -> None:
    """Post events; a failure to do so is no reason to stop."""
    for transition in transitions:
        try:
            api.create(k8s.EVENTS, build(observed, transition), observed.namespace)
        except ApiError as error:
            if not error.already_exists and not error.namespace_gone:
                _log.warning("no event for %s/%s: %s", observed.namespace, observed.name, error)
