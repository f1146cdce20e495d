"""Plain requests to an API server as one identity, and its refusals in its own words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes import client, config

Object = dict[str, Any]

JOBS = "/apis/transcription.dev/v1alpha1/namespaces/{namespace}/transcriptionjobs"
MODELS = "/apis/transcription.dev/v1alpha1/whispermodels"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRDS}/transcriptionjobs.transcription.dev"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

# The API server adds it where it found something wrong before it came to the rules.
_RULES_NOT_CHECKED = "some validation rules were not checked"


class Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, answer: Object) -> None:
        super().__init__(answer.get("message", str(answer)))
        self.status = status
        self.causes = [
            f"{cause.get('field', '')}: {cause['message']}"
            for cause in (answer.get("details") or {}).get("causes", [])
            if _RULES_NOT_CHECKED not in cause["message"]
        ]


@dataclasses.dataclass(frozen=True)
class Api:
    """Requests as one identity."""

    client: client.ApiClient

    @classmethod
    def of(cls, kubeconfig: Path) -> Api:
        """As the kubeconfig's user."""
        return cls(config.new_client_from_config(str(kubeconfig)))

    def as_bearer(self, token: str) -> Api:
        """To the same server, as whoever the token names."""
        known = self.client.configuration
        bearer = client.Configuration(host=known.host, api_key={"BearerToken": f"Bearer {token}"})
        bearer.ssl_ca_cert, bearer.verify_ssl = known.ssl_ca_cert, known.verify_ssl
        return Api(client.ApiClient(bearer))

    def request(
        self, method: str, path: str, body: object = None, kind: str = "application/json", **query: str
    ) -> Object:
        """One request; raises Refused with what the server said."""
        headers = {"Content-Type": kind, "Accept": "application/json"}
        for setting in self.client.configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        url = f"{self.client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = self.client.rest_client.pool_manager.request(
            method, url, body=None if body is None else json.dumps(body), headers=headers
        )
        # Of a path that it does not serve yet, the server says so in plain text.
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        document: Object = json.loads(answer.data) if is_json else {"message": answer.data.decode()}
        if answer.status >= 300:
            raise Refused(answer.status, document)
        return document

    def get(self, path: str) -> Object:
        """Reads an object."""
        return self.request("GET", path)

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Creates an object, as kubectl does: unknown fields are refused."""
        return self.request("POST", path, body, fieldValidation="Strict", **query)

    def apply(self, path: str, body: Object, manager: str) -> Object:
        """Server-side apply with force, as the operator and the runner write."""
        return self.request("PATCH", path, body, APPLY, fieldManager=manager, force="true")

    def merge(self, path: str, body: Object, **query: str) -> Object:
        """A merge patch."""
        return self.request("PATCH", path, body, MERGE, **query)

    def delete(self, path: str) -> None:
        """Deletes an object."""
        self.request("DELETE", path)


def job(name: str, spec: Object) -> Object:
    """A TranscriptionJob's manifest."""
    return {
        "apiVersion": "transcription.dev/v1alpha1",
        "kind": "TranscriptionJob",
        "metadata": {"name": name},
        "spec": spec,
    }


def model(name: str, source: Object, **spec: Any) -> Object:
    """A WhisperModel's manifest."""
    return {
        "apiVersion": "transcription.dev/v1alpha1",
        "kind": "WhisperModel",
        "metadata": {"name": name},
        "spec": {"source": source, **spec},
    }


def laid_over(base: Any, over: Any) -> Any:
    """`over` laid over `base` map by map; None takes a field away, {repeat, times} is a long text."""
    if not isinstance(over, dict):
        return over
    if set(over) == {"repeat", "times"}:
        return over["repeat"] * over["times"]
    merged = dict(base) if isinstance(base, dict) else {}
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = laid_over(merged.get(key), value)
    return merged
