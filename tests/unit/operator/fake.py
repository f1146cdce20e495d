"""A stand-in for the API server and the Job controller, in memory: for orders of events that a real one rarely shows.

It knows no schema and no rights; what a real API server says is tested in tests/integration/operator.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

from tests.unit.operator.building import RESULT
from transcription_operator import api as k8s
from transcription_operator import names, receipt
from transcription_operator.api import ApiError, Kind, Object

_TIME = "2026-11-22T12:00:00Z"


class FakeServer:
    """The calls of transcription_operator.api.Api that the operator makes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], Object] = {}
        self.writes = 0
        self.break_at: int | None = None
        """The operator "crashes" at this write: it is not done, and everything after it in the plan is lost."""
        self._uids = itertools.count(1)

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.break_at:
            raise ApiError(0, "Unreachable", "the operator was killed here")

    @staticmethod
    def _key(kind: Kind, namespace: str | None, name: str) -> tuple[str, str | None, str]:
        return kind.plural if kind != k8s.EVENTS else "events", namespace if kind.namespaced else None, name

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        found = self.objects.get(self._key(kind, namespace, name))
        return copy.deepcopy(found)

    def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str | None = None, **_: Any
    ) -> Iterator[Object]:
        for (plural, place, _), item in sorted(self.objects.items(), key=str):
            if plural != kind.plural or namespace not in (None, place):
                continue
            own = item["metadata"].get("labels") or {}
            if labels is None or all(_matches(own, part) for part in labels.split(",")):
                yield copy.deepcopy(item)

    def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object:
        self._write()
        key = self._key(kind, namespace, body["metadata"]["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", str(key))
        self.objects[key] = self._born(body, namespace)
        return self.objects[key]

    def _born(self, body: Object, namespace: str | None) -> Object:
        made = copy.deepcopy(body)
        made["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": _TIME,
            "generation": 1,
            "resourceVersion": "1",
        }
        if namespace:
            made["metadata"]["namespace"] = namespace
        if "claimRef" in made.get("spec", {}):
            made["status"] = {"phase": "Available"}
        return made

    def apply_status(self, kind: Kind, body: Object, namespace: str | None, name: str) -> Object:
        self._write()
        found = self.objects.get(self._key(kind, namespace, name))
        if found is None or found["metadata"]["uid"] != body["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "another object")
        runners = {k: v for k, v in (found.get("status") or {}).items() if k in ("result", "progress")}
        found["status"] = {**runners, **copy.deepcopy(body["status"])}
        return found

    def patch(self, kind: Kind, body: Object, name: str, namespace: str | None = None) -> Object:
        self._write()
        key = self._key(kind, namespace, name)
        found = self.objects.get(key)
        if found is None:
            raise ApiError(404, "NotFound", name)
        _merge(found, body)
        self._release(key)
        return found

    def _release(self, key: tuple[str, str | None, str]) -> None:
        """What is being deleted goes with its last finalizer."""
        meta = self.objects[key]["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            del self.objects[key]

    def delete(
        self, kind: Kind, name: str, namespace: str | None = None, *, uid: str | None = None, foreground: bool = False
    ) -> bool:
        self._write()
        key = self._key(kind, namespace, name)
        found = self.objects.get(key)
        if found is None or uid not in (None, found["metadata"]["uid"]):
            return False
        if found["metadata"].get("finalizers"):
            found["metadata"].setdefault("deletionTimestamp", _TIME)
            return True
        del self.objects[key]
        self._collect(found["metadata"]["uid"])
        return True

    def _collect(self, owner: str) -> None:
        for key, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or []
            if any(o["uid"] == owner for o in owners) and key in self.objects:
                del self.objects[key]
                self._collect(item["metadata"]["uid"])

    # the Job controller and the kubelet

    def jobs(self, component: str) -> list[Object]:
        return [
            item
            for (plural, _, _), item in self.objects.items()
            if plural == "jobs" and item["metadata"]["labels"][names.LABEL_COMPONENT] == component
        ]

    def step_pod(self, component: str, *, code: int = 0, error: str = "") -> bool:
        """Take one step with the first Job of a component that can take one; False if none can."""
        for job in self.jobs(component):
            status = job.setdefault("status", {})
            if job["spec"].get("suspend") or any(c["status"] == "True" for c in status.get("conditions", [])):
                continue
            self._step(job, status, code, error)
            return True
        return False

    def _step(self, job: Object, status: Object, code: int, error: str) -> None:
        selector = f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}"
        pods = list(self.list(k8s.PODS, labels=selector))
        if not pods:
            namespace = job["metadata"]["namespace"]
            body: Object = {
                "metadata": {
                    "name": f"{job['metadata']['name']}-abcde",
                    "labels": {"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]},
                    "ownerReferences": [{"uid": job["metadata"]["uid"], "controller": True}],
                },
                "status": {"phase": "Pending"},
            }
            key = self._key(k8s.PODS, namespace, body["metadata"]["name"])
            self.objects[key] = self._born(body, namespace)
            status["active"] = 1
            return
        pod = self.objects[self._key(k8s.PODS, pods[0]["metadata"]["namespace"], pods[0]["metadata"]["name"])]
        phase = pod["status"]["phase"]
        if phase == "Pending":
            running = {"name": "runner", "state": {"running": {"startedAt": _TIME}}}
            pod["status"] = {"phase": "Running", "containerStatuses": [running]}
        elif phase == "Running":
            self._end(job, pod, code, error)
        else:
            ended = "Complete" if phase == "Succeeded" else "Failed"
            counted = "succeeded" if phase == "Succeeded" else "failed"
            reason = "" if phase == "Succeeded" else "PodFailurePolicy"
            condition = {"type": ended, "status": "True", "reason": reason, "lastTransitionTime": _TIME}
            job["status"] = {counted: 1, "conditions": [condition]}

    def _end(self, job: Object, pod: Object, code: int, error: str) -> None:
        message = json.dumps({"error": {"class": error, "code": code, "message": "in words"}})
        if code == 0:
            result = {"digest": receipt.digest(RESULT), "sha256": "ab", "bytes": 1, "path": "p"}
            message = json.dumps({"result": result, "delivered": True, "text": " Hello."})
            name = job["metadata"].get("annotations", {}).get(names.ANNOTATION_JOB)
            owner = self.objects.get((names.PLURAL, job["metadata"]["namespace"], name or ""))
            if owner is not None:
                owner.setdefault("status", {})["result"] = copy.deepcopy(RESULT)
        ended = {"name": "runner", "state": {"terminated": {"exitCode": code, "message": message}}}
        pod["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]}


def _matches(labels: dict[str, str], wanted: str) -> bool:
    name, _, value = wanted.partition("=")
    return labels.get(name[:-1]) != value if name.endswith("!") else labels.get(name) == value


def _merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value
