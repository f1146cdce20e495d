"""helm, and what the chart renders."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import pins, tools

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "transcription-operator"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
VOLUME = ("--set", "cache.volume.hostPath.path=/srv/transcription")


@dataclasses.dataclass(frozen=True)
class Chart:
    """The chart, as helm sees it without a cluster."""

    helm: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """helm's answer, good or bad."""
        return subprocess.run([str(self.helm), *arguments], capture_output=True, text=True, timeout=120)

    def template(self, *arguments: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
        """What `helm template` says."""
        return self.run(
            "template", "release", str(chart), "--namespace", "system", "--kube-version", pins.KUBERNETES, *arguments
        )

    def rendered(self, *arguments: str, chart: Path = CHART) -> list[dict[str, Any]]:
        """The manifests; fails with helm's words."""
        done = self.template(*arguments, chart=chart)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def refused(self, *arguments: str) -> str:
        """helm's words when it refuses the values; fails if it does not."""
        done = self.template(*arguments)
        assert done.returncode != 0, "was not refused"
        return done.stderr

    @functools.cache  # noqa: B019
    def default(self) -> list[dict[str, Any]]:
        """The manifests with nothing but a volume given."""
        return self.rendered(*VOLUME)

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """The one manifest of a kind, or of a kind and name."""
        found = [m for m in self.default() if m["kind"] == kind and name in (None, m["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of {kind}"
        return found[0]


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart(tools.binary("helm"))
