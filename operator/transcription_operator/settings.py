"""The operator's settings: one YAML file, checked as a whole at the start (docs/contracts.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from transcription_operator import models
from transcription_operator.errors import SettingsError, SpecError
from transcription_operator.manifests import handles
from transcription_operator.models import ModelRef

DEFAULT_PATH = Path("/etc/transcription-operator/config.yaml")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


@dataclass(frozen=True)
class CacheSettings:
    """The shared volume, as every namespace's PersistentVolume describes it; none at all with baked models alone."""

    volume: Mapping[str, Any] = field(default_factory=dict)
    storage_class: str = ""
    volume_handles: str = handles.AS_DRIVER
    size: str = "100Gi"
    access_modes: tuple[str, ...] = ("ReadWriteMany",)
    mount_options: tuple[str, ...] = ()
    node_affinity: Mapping[str, Any] | None = None

    @property
    def shared(self) -> bool:
        """Whether there is a shared volume."""
        return bool(self.volume or self.storage_class)


@dataclass(frozen=True)
class RunnerSettings:
    """What every runner pod gets unless its TranscriptionJob says otherwise."""

    env: tuple[Mapping[str, Any], ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    download_resources: Mapping[str, Any] = field(default_factory=dict)
    backoff_limit: int = 3
    report_patience_seconds: int = 120
    ca_bundle: str = ""


@dataclass(frozen=True)
class HubSettings:
    """Where models come from."""

    endpoint: str = ""
    token_secret: str = ""


@dataclass(frozen=True)
class ModelSettings:
    """Which models TranscriptionJobs may bring into the cache."""

    create: bool = True
    allow: tuple[str, ...] = ("*",)
    """Patterns (fnmatch's) on owner/repo."""


@dataclass(frozen=True)
class RetentionSettings:
    """When models that nobody uses are removed."""

    unused_days: int = 0
    """0: never."""
    dry_run: bool = True


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    namespace: str
    runner_image: str
    cache: CacheSettings
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    inline_limit_bytes: int = 262144
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    baked_models: frozenset[ModelRef] = frozenset()
    """Models that the runner's image has inside."""
    models: ModelSettings = field(default_factory=ModelSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)


class _Section:
    """A mapping of the file that knows its own path and which of its keys were read."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise SettingsError(f"{path or 'the file'}: expected a mapping, found {type(value).__name__}")
        self._values = dict(value)
        self._path = path
        self._read: set[str] = set()

    def at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _take(self, key: str, kind: type | tuple[type, ...], default: object) -> Any:
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            if default is ...:
                raise SettingsError(f"{self.at(key)}: is required")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            expected = getattr(kind, "__name__", str(kind))
            raise SettingsError(f"{self.at(key)}: expected {expected}, found {value!r}")
        return value

    def text(self, key: str, default: object = ...) -> str:
        return str(self._take(key, str, default))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._take(key, bool, default))

    def number(self, key: str, default: int, minimum: int = 0) -> int:
        value = int(self._take(key, int, default))
        if value < minimum:
            raise SettingsError(f"{self.at(key)}: {value} is less than {minimum}")
        return value

    def items(self, key: str, kind: type | tuple[type, ...], default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        values = self._take(key, list, list(default))
        for index, value in enumerate(values):
            if not isinstance(value, kind):
                raise SettingsError(f"{self.at(key)}[{index}]: unexpected {value!r}")
        return tuple(values)

    def mapping(self, key: str, default: object = ...) -> dict[str, Any]:
        return dict(self._take(key, dict, default))

    def optional_mapping(self, key: str) -> dict[str, Any] | None:
        value = self._take(key, dict, None)
        return dict(value) if value else None

    def section(self, key: str) -> _Section:
        self._read.add(key)
        return _Section(self._values.get(key), self.at(key))

    def done(self) -> None:
        unknown = sorted(set(self._values) - self._read)
        if unknown:
            raise SettingsError(f"{self.at(unknown[0])}: no such setting (known here: {', '.join(sorted(self._read))})")


def _models(section: _Section, key: str) -> frozenset[ModelRef]:
    found = set()
    for index, name in enumerate(section.items(key, str)):
        try:
            ref = models.parse(name).ref
        except SpecError as error:
            raise SettingsError(f"{section.at(key)}[{index}]: {error.message.removeprefix('spec.model: ')}") from error
        if ref is None:
            raise SettingsError(f"{section.at(key)}[{index}]: {name!r} is neither a short name nor owner/repo")
        found.add(ref)
    return frozenset(found)


def _shared_volume(cache: _Section, baked: frozenset[ModelRef]) -> dict[str, Any]:
    """Where the shared volume is: named, or made by a storage class, or nowhere if the image has models inside."""
    volume, storage_class = cache.mapping("volume", {}), cache.text("storageClassName", "")
    if len(volume) + bool(storage_class) > 1 or not (volume or storage_class or baked):
        raise SettingsError(
            "cache.volume: give exactly one PersistentVolume source, such as csi, nfs, hostPath or local, or a "
            f"cache.storageClassName; none at all only with bakedModels; found {sorted(volume) or storage_class!r}"
        )
    choice = cache.text("volumeHandles", handles.AS_DRIVER)
    if refusal := handles.refusal(volume, choice):
        raise SettingsError(f"cache.volumeHandles: {refusal}")
    return {"volume": volume, "storage_class": storage_class, "volume_handles": choice}


def parse(document: object) -> Settings:
    """Check a parsed YAML document; raises SettingsError that names the key."""
    top = _Section(document, "")
    cache, runner, hub = top.section("cache"), top.section("runner"), top.section("hub")
    baked = _models(top, "bakedModels")
    shared = _shared_volume(cache, baked)
    model, retention = top.section("models"), top.section("retention")
    policy = top.text("imagePullPolicy", "IfNotPresent")
    if policy not in _PULL_POLICIES:
        raise SettingsError(f"imagePullPolicy: {policy!r} is none of {', '.join(_PULL_POLICIES)}")
    env = runner.items("env", dict)
    for index, variable in enumerate(env):
        if not variable.get("name"):
            raise SettingsError(f"runner.env[{index}].name: is required")
    secrets = top.items("imagePullSecrets", (str, dict))
    settings = Settings(
        namespace=top.text("namespace"),
        runner_image=top.text("runnerImage"),
        image_pull_policy=policy,
        # The pod's own form ({name: x}) and the bare name are both common in values files.
        image_pull_secrets=tuple(s if isinstance(s, str) else str(s.get("name", "")) for s in secrets),
        inline_limit_bytes=top.number("inlineLimitBytes", 262144),
        cache=CacheSettings(
            **shared,
            size=cache.text("size", "100Gi"),
            access_modes=cache.items("accessModes", str, ("ReadWriteMany",)),
            mount_options=cache.items("mountOptions", str),
            node_affinity=cache.optional_mapping("nodeAffinity"),
        ),
        runner=RunnerSettings(
            env=env,
            resources=runner.mapping("resources", {}),
            download_resources=runner.mapping("downloadResources", {}),
            backoff_limit=runner.number("backoffLimit", 3),
            report_patience_seconds=runner.number("reportPatienceSeconds", 120),
            ca_bundle=runner.text("caBundle", ""),
        ),
        hub=HubSettings(endpoint=hub.text("endpoint", ""), token_secret=hub.text("tokenSecret", "")),
        baked_models=baked,
        models=ModelSettings(create=model.flag("create", True), allow=model.items("allow", str, ("*",))),
        retention=RetentionSettings(
            unused_days=retention.number("unusedDays", 0), dry_run=retention.flag("dryRun", True)
        ),
    )
    for section in (cache, runner, hub, model, retention, top):
        section.done()
    return settings


def load(path: Path) -> Settings:
    """Read and check the settings file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is no YAML: {error}") from error
    try:
        return parse(document)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
