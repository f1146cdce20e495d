"""What a namespace needs before a runner can run in it."""

from __future__ import annotations

from transcription_operator import names
from transcription_operator.manifests import Manifest
from transcription_operator.settings import Settings


def _metadata(name: str, namespace: str | None, component: str) -> Manifest:
    metadata: Manifest = {"name": name, "labels": names.labels("transcription-namespace", component)}
    if namespace:
        metadata["namespace"] = namespace
    return metadata


def service_account(namespace: str) -> Manifest:
    """The runners' identity: may report results, nothing else."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(names.SERVICE_ACCOUNT, namespace, "access"),
        "automountServiceAccountToken": False,
    }


def role_binding(namespace: str) -> Manifest:
    """Ties the ServiceAccount to the chart's ClusterRole, in this namespace alone."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(names.ROLE_BINDING, namespace, "access"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": names.CLUSTER_ROLE,
        },
        "subjects": [{"kind": "ServiceAccount", "name": names.SERVICE_ACCOUNT, "namespace": namespace}],
    }


def ca_config_map(namespace: str, settings: Settings) -> Manifest:
    """Further certificate authorities."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(names.CA_CONFIG_MAP, namespace, "access"),
        "data": {names.CA_KEY: settings.runner.ca_bundle},
    }
