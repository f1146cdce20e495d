"""The chart's life on an API server: it upgrades the CRDs, and an uninstall leaves them and what people made."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.integration.admission.conftest import CHART, RUNNER_ROLE
from tests.integration.crds.client import CRD, JOBS, Refused, job
from tests.integration.crds.server import namespaced

VALUES = str(CHART / "examples" / "hostpath.yaml")
NEW_FIELD = "attempts:\n                  type: integer"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as an older version of it could have been, whose CRD did not know `attempts`."""
    folder = tmp_path / "older"
    shutil.copytree(CHART, folder)  # follows the link to crds/
    crd = folder / "files" / "crds" / "transcriptionjobs.yaml"
    text = crd.read_text()
    assert text.count(NEW_FIELD) == 1
    crd.write_text(text.replace(NEW_FIELD, NEW_FIELD.replace("attempts", "tries")))
    chart = folder / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.1.0", "version: 0.0.9", 1))
    return folder


def fields(api) -> set[str]:
    schema = api.get(CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["status"]["properties"])


def test_install_upgrade_uninstall_and_again(api, helm, chart, older):
    helm("uninstall", "policy", "--namespace", "policy-system")
    release = ("life", "--namespace", "life-system", "--values", VALUES)

    helm("install", release[0], str(older), *release[1:], "--create-namespace", "--take-ownership")
    assert "attempts" not in fields(api)
    with namespaced(api, "life") as namespace:
        path = f"{JOBS.format(namespace=namespace)}/kept"
        made = job("kept", {"audio": {"url": "s3://b/a.mp3"}, "model": "base"})
        _created(api, JOBS.format(namespace=namespace), made)

        helm("upgrade", release[0], str(CHART), *release[1:])
        assert "attempts" in fields(api), "an upgrade brings the new schema"

        helm("uninstall", release[0], "--namespace", "life-system")
        assert api.get(path)["spec"]["model"] == "base", "an uninstall leaves people's resources"
        with pytest.raises(Refused, match="not found"):
            api.get(RUNNER_ROLE)

        notes = helm("install", release[0], str(CHART), *release[1:])
        assert "kubectl -n life-system rollout status deployment/life-transcription-operator" in notes
        assert api.get(RUNNER_ROLE)
        assert api.get(path)
    helm("uninstall", release[0], "--namespace", "life-system")


def _created(api, path, manifest, patience: float = 20) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            api.create(path, manifest)
            return
        except Refused:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
