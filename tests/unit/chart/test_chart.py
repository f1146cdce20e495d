"""What the chart renders, what it refuses, and in which words."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest
import yaml

from tests.unit.chart.conftest import CHART, EXAMPLES, ROOT, VOLUME

KINDS = {
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "CustomResourceDefinition", "Deployment", "ServiceAccount",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}  # fmt: skip


def settings(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The operator's settings file."""
    (config,) = (m for m in manifests if m["kind"] == "ConfigMap")
    document: dict[str, Any] = yaml.safe_load(config["data"]["config.yaml"])
    return document


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint(chart, example):
    done = chart.run("lint", "--strict", str(CHART), "--values", str(CHART / "examples" / f"{example}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_render(chart, example):
    manifests = chart.rendered("--values", str(CHART / "examples" / f"{example}.yaml"))
    assert {m["kind"] for m in manifests} == KINDS
    cache = settings(manifests)["cache"]
    places = [*cache["volume"], *filter(None, [cache["storageClassName"]])]
    assert len(places) == (0 if example == "baked" else 1)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_operator_understands_its_settings(chart, example):
    from transcription_operator import settings as operators

    manifests = chart.rendered(
        "--values", str(CHART / "examples" / f"{example}.yaml"), "--set", "imagePullSecrets[0].name=regcred",
        "--set-string", "runner.image.digest=sha256:" + "0" * 64,
    )  # fmt: skip
    parsed = operators.parse(settings(manifests))
    assert parsed.namespace == "system"
    assert parsed.runner_image.endswith("transcription-runner@sha256:" + "0" * 64)
    assert parsed.image_pull_secrets == ("regcred",)
    assert parsed.cache.access_modes == ("ReadWriteMany",)
    assert parsed.inline_limit_bytes == 262144


def test_the_settings_are_those_of_the_contract(chart):
    contract = (ROOT / "docs" / "contracts.md").read_text()
    block = contract[contract.index("namespace: transcription-system") :]
    documented = yaml.safe_load(block[: block.index("```")])
    rendered = settings(chart.default())
    assert shape(rendered) == shape(documented)
    for key in ("inlineLimitBytes", "runner", "hub", "models", "retention"):
        assert rendered[key] == documented[key], key


def shape(document: dict[str, Any]) -> dict[str, Any]:
    """The keys, two levels deep."""
    return {k: sorted(v) if isinstance(v, dict) and k != "volume" else None for k, v in document.items()}


def test_large_numbers_stay_whole(chart):
    manifests = chart.rendered(
        *VOLUME, "--set", "inlineLimitBytes=1048576", "--set", "runner.resources.limits.memory=17179869184"
    )
    assert settings(manifests)["inlineLimitBytes"] == 1048576
    assert settings(manifests)["runner"]["resources"]["limits"]["memory"] == 17179869184


def test_a_volume_has_to_be_given(chart):
    said = chart.refused()
    assert "cache.volume is missing: say where the shared volume is" in said
    assert "--set cache.volume.hostPath.path=/srv/transcription" in said


def test_two_volumes_are_one_too_many(chart):
    said = chart.refused(*VOLUME, "--values", str(CHART / "examples" / "nfs.yaml"))
    assert "cache.volume names 2 volumes (hostPath, nfs): keep one, and set the others to null" in said


def test_a_volume_and_a_storage_class_are_one_too_many(chart):
    said = chart.refused(*VOLUME, "--set", "cache.storageClassName=nfs-csi")
    assert "cache.volume (hostPath) and cache.storageClassName (nfs-csi): keep one of them" in said


def test_a_volume_set_to_null_is_gone(chart):
    manifests = chart.rendered(
        *VOLUME, "--values", str(CHART / "examples" / "nfs.yaml"), "--set", "cache.volume.nfs=null"
    )
    assert list(settings(manifests)["cache"]["volume"]) == ["hostPath"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("cahe.size=1Gi", "additional properties 'cahe' not allowed"),
        ("cache.volume.hostpath.path=/srv", "at '/cache/volume': additional properties 'hostpath' not allowed"),
        ("cache.size=lots", "at '/cache/size': 'lots' does not match pattern"),
        ("cache.volumeHandles=Unique", "at '/cache/volumeHandles': value must be one of '', 'Same', 'PerNamespace'"),
        ("runner.bakedModels[0]=large v3", "at '/runner/bakedModels/0': 'large v3' does not match pattern"),
        ("cache.accessModes[0]=RWX", "at '/cache/accessModes/0': value must be one of 'ReadWriteMany'"),
        ("operator.image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("operator.image.digest=1234", "at '/operator/image/digest': got number, want string"),
        ("operator.log.level=loud", "at '/operator/log/level': value must be one of 'debug', 'info'"),
        ("operator.replicas=2", "at '/operator': additional properties 'replicas' not allowed"),
        ("runner.image.tag=2", "at '/runner/image/tag': got number, want string"),
        ("runner.backoffLimit=-1", "at '/runner/backoffLimit': minimum: got -1, want 0"),
        ("runner.env[0].value=x", "at '/runner/env/0': missing property 'name'"),
        ("runner.caBundle=/etc/ssl/ca.pem", "at '/runner/caBundle': '/etc/ssl/ca.pem' does not match pattern"),
        ("runner.resources.limit.memory=1Gi", "at '/runner/resources': additional properties 'limit' not allowed"),
        ("hub.endpoint=mirror.example.org", "at '/hub/endpoint': 'mirror.example.org' does not match pattern"),
        ("inlineLimitBytes=9000000", "at '/inlineLimitBytes': maximum: got 9"),
        ("imagePullSecrets[0]=regcred", "at '/imagePullSecrets/0': got string, want object"),
    ],
)
def test_values_that_mean_nothing_are_named(chart, value, says):
    said = chart.refused(*VOLUME, "--set", value)
    assert says in said


def undescribed(schema: dict[str, Any], path: str = "") -> list[str]:
    missing = [] if "description" in schema else [path]
    for name, child in schema.get("properties", {}).items():
        missing += undescribed(child, f"{path}.{name}")
    return missing


def test_the_schema_speaks_of_every_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert undescribed(schema) == []

    def paths(tree: dict[str, Any], known: dict[str, Any], at: str = "") -> list[str]:
        if "$ref" in known:
            known = known | schema["definitions"][known["$ref"].rpartition("/")[2]]
        unknown = [f"{at}.{k}" for k in tree if k not in known.get("properties", {})] if "properties" in known else []
        for key, value in tree.items():
            if isinstance(value, dict) and key in known.get("properties", {}):
                unknown += paths(value, known["properties"][key], f"{at}.{key}")
        return unknown

    assert paths(values, schema) == []


def test_the_crds_are_those_of_the_checkout(chart):
    in_chart = {m["metadata"]["name"]: m for m in chart.default() if m["kind"] == "CustomResourceDefinition"}
    in_folder = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert in_chart == {crd["metadata"]["name"]: crd for crd in in_folder}
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in in_folder)


def test_the_crds_can_be_left_out(chart):
    manifests = chart.rendered(*VOLUME, "--set", "crds.install=false")
    assert {m["kind"] for m in manifests} == KINDS - {"CustomResourceDefinition"}


def test_a_package_has_all_of_it(chart, tmp_path):
    """A link in the checkout is a file in the package, and the package renders the same."""
    done = chart.run("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        assert all(member.isfile() for member in archive)
        names = archive.getnames()
    assert "transcription-operator/files/crds/transcriptionjobs.yaml" in names
    assert "transcription-operator/examples/efs.yaml" in names
    assert chart.rendered(*VOLUME, chart=package) == chart.default()


def test_names_and_labels(chart):
    for manifest in chart.default():
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "transcription-operator"
        assert labels["app.kubernetes.io/instance"] == "release"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("transcription-operator-")
    assert chart.one("Deployment")["metadata"]["name"] == "release-transcription-operator"


def pod(chart) -> dict[str, Any]:
    template: dict[str, Any] = chart.one("Deployment")["spec"]["template"]
    return template


def test_the_pod_is_restricted(chart):
    spec = pod(chart)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert container["command"] == [
        "transcription-operator", "run", "--config", "/etc/transcription-operator/config.yaml"
    ]  # fmt: skip
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/etc/transcription-operator", "/tmp"}
    assert container["resources"]["limits"]["memory"]
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "health"}


def test_there_is_one_operator_at_a_time(chart):
    spec = chart.one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_change_of_the_settings_restarts_the_operator(chart):
    def checksum(*arguments: str) -> str:
        (deployment,) = (m for m in chart.rendered(*VOLUME, *arguments) if m["kind"] == "Deployment")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum("--set", "operator.podAnnotations.a=b")
    assert checksum() != checksum("--set", "runner.backoffLimit=5")


def test_the_pods_own_values(chart, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(
        yaml.safe_dump(
            {
                "imagePullSecrets": [{"name": "regcred"}],
                "operator": {
                    "image": {"repository": "registry.example.org/operator", "tag": "1.2"},
                    "log": {"level": "debug", "format": "text"},
                    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
                    "podAnnotations": {"a": "b"},
                    "podLabels": {"c": "d"},
                    "nodeSelector": {"disk": "ssd"},
                    "tolerations": [{"operator": "Exists"}],
                    "affinity": {"nodeAffinity": {}},
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccount": {"name": "own", "annotations": {"role": "r"}},
                },
            }
        )
    )
    manifests = chart.rendered(*VOLUME, "--values", str(values))
    (deployment,) = (m for m in manifests if m["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    spec = template["spec"]
    environment = {e["name"]: e["value"] for e in spec["containers"][0]["env"]}
    assert spec["containers"][0]["image"] == "registry.example.org/operator:1.2"
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["TRANSCRIPTION_LOG_LEVEL"] == "debug"
    assert template["metadata"]["annotations"]["a"] == "b"
    assert template["metadata"]["labels"]["c"] == "d"
    assert spec["imagePullSecrets"] == [{"name": "regcred"}]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["serviceAccountName"] == "own"
    (account,) = (m for m in manifests if m["kind"] == "ServiceAccount" and m["metadata"]["name"] == "own")
    assert account["metadata"]["annotations"] == {"role": "r"}
    (binding,) = (
        m for m in manifests if m["kind"] == "ClusterRoleBinding" and m["metadata"]["name"] != "transcription-download"
    )
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "own", "namespace": "system"}]


def test_older_clusters_are_refused(chart):
    done = chart.run("template", "release", str(CHART), "--kube-version", "1.29.9", *VOLUME)
    assert done.returncode != 0
    assert "chart requires kubeVersion: >=1.30.0-0" in done.stderr


def test_metrics_can_be_found(chart):
    manifests = chart.rendered(
        *VOLUME, "--set", "metrics.service.enabled=true", "--set", "metrics.podMonitor.enabled=true",
        "--set-string", "metrics.service.annotations.prometheus\\.io/scrape=true",
    )  # fmt: skip
    (deployment,) = (m for m in manifests if m["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (service,) = (m for m in manifests if m["kind"] == "Service")
    (monitor,) = (m for m in manifests if m["kind"] == "PodMonitor")
    assert service["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}
    assert service["spec"]["selector"].items() <= labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert (
        service["spec"]["ports"][0]["targetPort"] == port["name"] == monitor["spec"]["podMetricsEndpoints"][0]["port"]
    )
