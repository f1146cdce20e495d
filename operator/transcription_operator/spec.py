"""A TranscriptionJob's spec, and the runner's arguments that it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transcription_operator import models, names
from transcription_operator.errors import SpecError

AUDIO_MOUNT = "/audio"
OUTPUT_MOUNT = "/output"

_WHISPER = ("multilingual", "initialPrompt", "carryInitialPrompt", "hotwords", "clipTimestamps", "wordTimestamps")
_DECODING = (
    "beamSize",
    "bestOf",
    "patience",
    "lengthPenalty",
    "temperature",
    "temperatureIncrementOnFallback",
    "compressionRatioThreshold",
    "logprobThreshold",
    "noSpeechThreshold",
    "conditionOnPreviousText",
    "suppressTokens",
    "hallucinationSilenceThreshold",
)
_VAD = ("threshold", "minSilenceDurationMs", "minSpeechDurationMs", "speechPadMs")


@dataclass(frozen=True)
class VolumePath:
    """A place on a claim of the job's own namespace."""

    claim: str
    path: str


@dataclass(frozen=True)
class Output:
    """Where the transcript is copied after the durable copy, and in which forms."""

    formats: tuple[str, ...] = ("json",)
    url: str | None = None
    volume: VolumePath | None = None
    credentials: str | None = None


@dataclass(frozen=True)
class PodOptions:
    """Parts of the pod that users write as in a Pod."""

    resources: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    affinity: Mapping[str, Any] | None = None
    priority_class: str | None = None
    runtime_class: str | None = None


@dataclass(frozen=True)
class Spec:
    """The spec, read once."""

    audio: str | VolumePath
    model: models.ModelWish
    adapter: models.ModelWish | None = field(default=None, kw_only=True)
    options: Mapping[str, Any]
    """The runner's options that come after its paths, by name, in the order in which they are passed."""
    mode: str = "batched"
    device: str = "auto"
    engine: str = "transformers"
    fresh: bool = False
    vad: bool = True
    output: Output = field(default_factory=Output)
    credentials: str | None = None
    pod: PodOptions = field(default_factory=PodOptions)
    queue: str | None = None
    suspend: bool = False
    backoff_limit: int | None = None
    active_deadline: int | None = None
    ttl: int | None = None

    @property
    def audio_argument(self) -> str:
        """What the runner opens."""
        if isinstance(self.audio, str):
            return self.audio
        return f"{AUDIO_MOUNT}/{self.audio.path.lstrip('/')}"

    @property
    def output_argument(self) -> str | None:
        """Where the runner copies to, if anywhere."""
        if self.output.volume:
            return f"{OUTPUT_MOUNT}/{self.output.volume.path.lstrip('/')}".rstrip("/")
        return self.output.url


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _volume(value: Mapping[str, Any], where: str) -> VolumePath:
    path = str(value.get("path") or "")
    if ".." in path.split("/"):
        raise SpecError(f"{where}.path: {path!r} leaves the volume; write the path without '..'.")
    claim = str(value["claimName"])
    if claim == names.CACHE_CLAIM:
        # It holds every namespace's transcripts; and a pod with the same CSI volume twice never starts.
        raise SpecError(
            f"{where}.claimName: {claim} is the operator's own claim onto the shared volume, which holds everybody's "
            "transcripts; use another claim."
        )
    return VolumePath(claim=claim, path=path)


def _url(value: str, where: str) -> str:
    # An address that begins with a dash would be an option of the runner's.
    if value.startswith("-"):
        raise SpecError(f"{where}: {value!r} is no address.")
    return value


def _options(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    language = spec.get("language") or "auto"
    if language != "auto":
        yield "language", language
    if spec.get("languages"):
        yield "languages", ",".join(spec["languages"])
    if spec.get("task"):
        yield "task", spec["task"]
    vad = spec.get("vad") or {}
    for prefix, options, source in (("", _WHISPER, spec), ("", _DECODING, spec.get("decoding") or {})):
        for name in options:
            if source.get(name) is not None:
                yield prefix + _snake(name), source[name]
    if vad.get("enabled", True):
        for name in _VAD:
            if vad.get(name) is not None:
                yield f"vad_{_snake(name)}", vad[name]


def parse(spec: Mapping[str, Any]) -> Spec:
    """Read a spec that the API server has validated; raises SpecError for what a schema cannot see."""
    audio = spec.get("audio") or {}
    source: str | VolumePath
    if audio.get("volume"):
        source = _volume(audio["volume"], "spec.audio.volume")
    elif audio.get("url"):
        source = _url(audio["url"], "spec.audio.url")
    else:
        raise SpecError("spec.audio: give a url or a volume.")
    output = spec.get("output") or {}
    return Spec(
        audio=source,
        model=models.parse(spec.get("model") or ""),
        adapter=models.parse_adapter(spec["adapter"]) if spec.get("adapter") else None,
        options=dict(_options(spec)),
        mode=spec.get("mode") or "batched",
        device=spec.get("device") or "auto",
        engine=spec.get("engine") or "transformers",
        fresh=spec.get("cache") == "Fresh",
        vad=bool((spec.get("vad") or {}).get("enabled", True)),
        output=Output(
            formats=tuple(output.get("formats") or ("json",)),
            url=_url(output["url"], "spec.output.url") if output.get("url") else None,
            volume=_volume(output["volume"], "spec.output.volume") if output.get("volume") else None,
            credentials=(output.get("credentialsSecret") or {}).get("name"),
        ),
        credentials=(spec.get("credentialsSecret") or {}).get("name"),
        pod=PodOptions(
            resources=spec.get("resources") or {},
            node_selector=spec.get("nodeSelector") or {},
            tolerations=tuple(spec.get("tolerations") or ()),
            affinity=spec.get("affinity"),
            priority_class=spec.get("priorityClassName"),
            runtime_class=spec.get("runtimeClassName"),
        ),
        queue=spec.get("queueName"),
        suspend=bool(spec.get("suspend")),
        backoff_limit=spec.get("backoffLimit"),
        active_deadline=spec.get("activeDeadlineSeconds"),
        ttl=spec.get("ttlSecondsAfterFinished"),
    )


def _render(name: str, value: object) -> str:
    if name == "temperature_increment_on_fallback" and not value:
        return "None"  # whisper's way to say "no fallback": it would divide by 0
    return str(value)  # booleans too: whisper takes Python's True and False


def arguments(
    spec: Spec, *, model: str, adapter: str | None = None, output_name: str, model_dir: str, output_dir: str
) -> list[str]:
    """The runner's command line. `--name=value`, so that no value can be taken for an option."""
    formats = dict.fromkeys(("json", *spec.output.formats))  # the durable copy is JSON, whatever else
    fixed: dict[str, object] = {
        "model": model,
        "model_dir": model_dir,
        "output_dir": output_dir,
        "output_name": output_name,
        "output_format": ",".join(formats),
    }
    if adapter:
        fixed["adapter"] = adapter
    if spec.output_argument:
        fixed["output"] = spec.output_argument
    fixed |= {"mode": spec.mode, "device": spec.device, "engine": spec.engine}
    arguments = [f"--{name}={_render(name, value)}" for name, value in {**fixed, **spec.options}.items()]
    if not spec.vad:
        arguments.append("--no_vad")
    return [spec.audio_argument, *arguments]
