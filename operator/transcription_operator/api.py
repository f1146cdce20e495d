"""A thin, blocking client of the API server: plain dictionaries, and only what this operator does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from transcription_operator import names
from transcription_operator.throttle import TokenBucket

Object = dict[str, Any]

_TIMEOUT = (5, 60)
_PAGE = 500
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;q=0.5"


@dataclass(frozen=True)
class Kind:
    """One kind of resource, as the API server's paths name it."""

    prefix: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of a collection, an object or a part of it."""
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(parts)


TRANSCRIPTION_JOBS = Kind(f"apis/{names.API_VERSION}", names.PLURAL)
WHISPER_MODELS = Kind(f"apis/{names.API_VERSION}", names.MODEL_PLURAL, namespaced=False)
JOBS = Kind("apis/batch/v1", "jobs")
PODS = Kind("api/v1", "pods")
SERVICE_ACCOUNTS = Kind("api/v1", "serviceaccounts")
CONFIG_MAPS = Kind("api/v1", "configmaps")
CLAIMS = Kind("api/v1", "persistentvolumeclaims")
VOLUMES = Kind("api/v1", "persistentvolumes", namespaced=False)
ROLE_BINDINGS = Kind("apis/rbac.authorization.k8s.io/v1", "rolebindings")
EVENTS = Kind("apis/events.k8s.io/v1", "events")
CORE_EVENTS = Kind("api/v1", "events")


class ApiError(Exception):
    """The API server refused, or could not be reached (status 0)."""

    def __init__(self, status: int, reason: str, message: str, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.body = body or {}

    @property
    def is_missing(self) -> bool:
        """There is no such object (or kind)."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """The object changed, or is not the one that was meant."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        """An object of that name is there."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def namespace_gone(self) -> bool:
        """The namespace is being deleted or is gone."""
        details = self.body.get("details") or {}
        causes = details.get("causes") or []
        if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
            return True
        return self.status == 404 and details.get("kind") == "namespaces"


def load_configuration(kubeconfig: str | None = None) -> Configuration:
    """How to reach the API server: a given kubeconfig, else the pod's own account, else the user's kubeconfig."""
    configuration = Configuration()
    if kubeconfig:
        load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        return configuration
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException:
        load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


class Api:
    """Requests to the API server. Safe to use from several threads."""

    def __init__(self, configuration: Configuration, *, creates: TokenBucket | None = None, threads: int = 8) -> None:
        configuration.connection_pool_maxsize = threads
        self._client = ApiClient(configuration)
        self._client.user_agent = names.FIELD_MANAGER
        self._creates = creates or TokenBucket(rate=20, burst=50)
        self.on_contact: Callable[[], None] = lambda: None

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        headers = {"Accept": accept, "Content-Type": content_type}
        request = self._client.param_serialize(
            method,
            path,
            query_params=[(key, value) for key, value in (query or {}).items() if value is not None],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=_TIMEOUT)
            data = response.read()  # type: ignore[no-untyped-call]
        except HTTPError as error:
            raise ApiError(0, "Unreachable", str(error)) from error
        self.on_contact()
        try:
            document = json.loads(data) if data else {}
        except ValueError:
            document = {"message": data[:500].decode(errors="replace")}
        if not 200 <= response.status <= 299:
            raise ApiError(
                response.status,
                document.get("reason") or response.reason or "",
                document.get("message") or "",
                document,
            )
        return document if isinstance(document, dict) else {}

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind at all."""
        try:
            resources = self._request("GET", f"/{kind.prefix}").get("resources") or []
        except ApiError as error:
            if error.is_missing:
                return False
            raise
        return any(resource.get("name") == kind.plural for resource in resources)

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """One object; None if it is not there."""
        try:
            return self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.is_missing:
                return None
            raise

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> Iterator[Object]:
        """Objects, page by page; with `metadata_only` nothing but their metadata travels."""
        token: str | None = None
        while True:
            page = self._request(
                "GET",
                kind.path(namespace),
                query={"labelSelector": labels, "fieldSelector": fields, "limit": _PAGE, "continue": token},
                accept=_METADATA_LIST if metadata_only else "application/json",
            )
            yield from page.get("items") or []
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return

    def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object:
        """Create an object; all but events wait for the token bucket."""
        if kind != EVENTS:
            self._creates.take()
        return self._request("POST", kind.path(namespace), query={"fieldManager": names.FIELD_MANAGER}, body=body)

    def apply_status(self, kind: Kind, body: Object, namespace: str | None, name: str) -> Object:
        """Server-side apply to the status subresource."""
        return self._request(
            "PATCH",
            kind.path(namespace, name, "status"),
            query={"fieldManager": names.FIELD_MANAGER, "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )

    def patch(self, kind: Kind, body: Object, name: str, namespace: str | None = None) -> Object:
        """Merge patch. A `metadata.uid` in it makes it fail on another object of the same name."""
        return self._request(
            "PATCH",
            kind.path(namespace, name),
            query={"fieldManager": names.FIELD_MANAGER},
            body=body,
            content_type="application/merge-patch+json",
        )

    def delete(
        self, kind: Kind, name: str, namespace: str | None = None, *, uid: str | None = None, foreground: bool = False
    ) -> bool:
        """Delete an object (only the one with this uid); False if it is not there, or is another one.

        With `foreground` its name stays taken until everything that it owns is gone.
        """
        policy = "Foreground" if foreground else "Background"
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._request("DELETE", kind.path(namespace, name), body=options)
        except ApiError as error:
            if error.is_missing or error.is_conflict:
                return False
            raise
        return True
