"""A WhisperModel's spec: where the files come from, and under which name they are in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transcription_operator.errors import SpecError
from transcription_operator.models import DEFAULT_REVISION, ModelRef

URL_OWNER = "whispermodel"
"""Owner, in the cache, of models that come from an address."""
_VOLUME_OWNER = "volume"


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hub."""

    ref: ModelRef


@dataclass(frozen=True)
class UrlSource:
    """A folder of an object store."""

    url: str


@dataclass(frozen=True)
class VolumeSource:
    """A folder on the shared volume that somebody else has filled."""

    path: str


Source = HubSource | UrlSource | VolumeSource


@dataclass(frozen=True)
class ModelSpec:
    """The spec, read once."""

    name: str
    """The WhisperModel's own."""
    source: Source
    token_secret: str | None = None
    credentials: str | None = None
    unused_days: int | None = None

    @property
    def ref(self) -> ModelRef:
        """Under which name its files are known: WhisperModels of the same name share them."""
        match self.source:
            case HubSource(ref):
                return ref
            case UrlSource():
                return ModelRef(f"{URL_OWNER}/{self.name}")
            case VolumeSource(path):
                return ModelRef(f"{_VOLUME_OWNER}/{path}")

    def argument(self, models_folder: str) -> str:
        """What the runner's --model takes, where the cache's models are mounted at this folder."""
        if isinstance(self.source, VolumeSource):
            return f"{models_folder}/{self.source.path}"
        return self.ref.argument

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        match self.source:
            case HubSource(ref):
                return ref.argument
            case UrlSource(url):
                return url
            case VolumeSource(path):
                return f"models/{path} on the shared volume"


def parse(name: str, spec: Mapping[str, Any]) -> ModelSpec:
    """Read a spec that the API server has let through; raises SpecError if it is of another version's rules."""
    source = spec.get("source") or {}
    found: Source
    if hub := source.get("hub"):
        found = HubSource(ModelRef(str(hub["repo"]), str(hub.get("revision") or DEFAULT_REVISION)))
    elif source.get("url"):
        found = UrlSource(str(source["url"]))
    elif volume := source.get("volume"):
        path = str(volume["path"]).strip("/")
        if not path or ".." in path.split("/"):
            raise SpecError(f"spec.source.volume.path: {path!r} is no folder below models/.")
        found = VolumeSource(path)
    else:
        raise SpecError("spec.source: give one of hub, url and volume.")
    return ModelSpec(
        name=name,
        source=found,
        token_secret=(spec.get("tokenSecret") or {}).get("name"),
        credentials=(spec.get("credentialsSecret") or {}).get("name"),
        unused_days=(spec.get("retention") or {}).get("unusedDays"),
    )
