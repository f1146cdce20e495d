"""The files of one call: fetch, load, transcribe, durable copy, delivery, receipt (DESIGN §3).

With TRANSCRIPTION_JOB each step is reported to the resource; without it, this is the plain command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from transcription_runner import cache, profile
from transcription_runner.errors import BadAudio, Internal, OutOfMemory, OutputFailed, RunnerError, Temporary, Usage
from transcription_runner.filesystem import free_bytes
from transcription_runner.names import ModelName
from transcription_runner.outputs import Durable, DurableCopy, check_writable, deliver
from transcription_runner.printer import Printer
from transcription_runner.progress import Bar, Meter, human_bytes, human_seconds
from transcription_runner.receipt import VERSION, digest
from transcription_runner.report import DEFAULT_INLINE_LIMIT, Delivery, Reporter, inline
from transcription_runner.settings import File, Settings, runner_version
from transcription_runner.sources import Source, check_local, fetched
from transcription_runner.writers import render

if TYPE_CHECKING:
    from transcription_runner.transcribe import Outcome, Progress

_RECEIPT_TEXT = 500

Transcribe: TypeAlias = Callable[..., dict[str, Any]]
Many: TypeAlias = "Callable[..., Generator[Outcome]]"
Loaded: TypeAlias = "tuple[Any, Transcribe, Many | None]"
"""An engine, and what transcribes one file with it, and many together where it can."""

_log = logging.getLogger(__name__)


class Loader:
    """Finds the model at once, and loads it in a thread of its own while the audio is fetched."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; `start` begins."""
        self._settings = settings
        self._done = threading.Event()
        self._result: Loaded | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._found: cache.CachedModel | None = None
        self._adapter: cache.CachedModel | None = None
        self.seconds = 0.0

    @property
    def model(self) -> cache.CachedModel | None:
        """The model found, once it is."""
        return self._found

    def start(self) -> None:
        """Begin, if that has not been done. Raises what a quick look at the cache finds wrong."""
        if self._thread is not None:
            return
        settings = self._settings
        self._found = self._look(settings.model)
        if settings.adapter is not None:
            folder = settings.adapter.path
            self._adapter = (
                cache.CachedModel(path=folder, shown=str(folder))
                if folder is not None
                else self._look(settings.adapter)
            )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _look(self, model: ModelName) -> cache.CachedModel | None:
        """What is in the cache; None for what has to be downloaded. Raises ModelMissing where it may not be."""
        roots = list(self._settings.roots)
        found = cache.find(model, roots)
        if found is None and cache.offline():
            raise cache.missing(model, roots)
        return found

    def wait(self) -> Loaded:
        """The engine, and the functions that transcribe with it. Raises whatever went wrong while loading."""
        # An Event with a timeout lets SIGTERM in, which a join without one would hold back.
        while not self._done.wait(0.5):
            pass
        if self._error is not None:
            raise self._error
        return cast("Loaded", self._result)

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self._result = self._load()
        except BaseException as error:  # noqa: BLE001  # raised again in wait()
            self._error = error
        finally:
            self.seconds = time.monotonic() - started
            self._done.set()

    def _load(self) -> Loaded:
        settings = self._settings
        if self._found is None:
            self._found = _downloaded(settings.model, settings.roots[0])
        if self._adapter is None and settings.adapter is not None:
            self._adapter = _downloaded(settings.adapter, settings.roots[0])
        _log.info("loading %s from %s", self._found.shown, self._found.path)
        try:
            loaded = _engine(settings, self._found.path, self._adapter.path if self._adapter else None)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, Usage):
                raise
            raise cache.blame(self._found, error) from error
        _log.info("model %s, device %s", self._found.shown, device_of(loaded[0]))
        return loaded


def _downloaded(model: ModelName, root: Path) -> cache.CachedModel:
    from transcription_runner.download import download_model

    brought = download_model(cast(str, model.repo), model.revision, root)
    return cache.CachedModel(
        path=brought.path, shown=model.shown, repo=brought.repo, revision=brought.revision, commit=brought.commit
    )


def _engine(settings: Settings, path: Path, adapter: Path | None) -> Loaded:
    how: dict[str, Any] = {
        "device": settings.device,
        "compute_type": settings.compute_type,
        "threads": settings.threads,
        "adapter": adapter,
    }
    if settings.engine == "openai-whisper":
        try:
            roll_back = importlib.import_module("transcription_runner.openai_engine")
            return roll_back.load_engine(path, **how), roll_back.transcribe, None
        except ImportError as error:
            raise Usage(
                f"--engine openai-whisper is not installed here: {error}.",
                hint="Install the package openai-whisper beside the runner, or use --engine transformers.",
            ) from error
    with profile.stage(profile.START):
        from transcription_runner.engine import load_engine
        from transcription_runner.transcribe import transcribe, transcribe_many

    with profile.stage(profile.LOAD):
        return load_engine(path, num_workers=settings.num_workers, **how), transcribe, transcribe_many


def device_of(engine: object) -> str:
    """The device that an engine really runs on."""
    return str(getattr(engine, "device", "unknown"))


def in_pod(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a TranscriptionJob's attempt."""
    return bool(environ.get("TRANSCRIPTION_JOB"))


class Job:
    """All files of one call, with one model."""

    def __init__(
        self,
        settings: Settings,
        *,
        reporter: Reporter | None = None,
        printer: Printer | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Prepare to run files with these settings, reporting to `reporter`; `printer` shows segments as they come."""
        self.settings = settings
        self._reporter = reporter
        self._printer = printer
        self._environ = environ
        self.loader = Loader(settings)
        self.last_result: Mapping[str, Any] | None = None

    @property
    def in_pod(self) -> bool:
        """Whether this is a TranscriptionJob's attempt: its result is written once."""
        return in_pod(self._environ)

    @property
    def ephemeral(self) -> bool:
        """Whether what is written to the output folder ends with this pod: there is no shared volume."""
        return bool(self._environ.get("TRANSCRIPTION_EPHEMERAL"))

    def run_all(self, files: Sequence[File]) -> Generator[tuple[File, dict[str, Any] | RunnerError]]:
        """Transcribe files; yields each with its receipt, or with the error that it met, as it is finished."""
        if len(files) > 1 and self.settings.engine == "transformers" and not self.in_pod:
            from transcription_runner.together import Together

            yield from Together(self, files).run()
            return
        for file in files:
            outcome: dict[str, Any] | RunnerError
            try:
                outcome = self.run(file)
            except RunnerError as error:
                outcome = error
            yield file, outcome

    def run(self, file: File) -> dict[str, Any]:
        """Transcribe one file and return its receipt. Raises RunnerError."""
        started = time.monotonic()
        settings = self.settings
        copy = DurableCopy(settings.output_dir, file.name)
        check_source(file.source)
        fingerprint = self._fingerprint(file.source) if self.in_pod else None
        durable = copy.find(fingerprint) if fingerprint else None
        timings: dict[str, float] = {}
        if durable is not None:
            _log.info("%s was written by an earlier attempt: delivering that", durable.path)
        else:
            check_writable(settings.output_dir, settings.output)
            result, facts, timings = self._transcribe(file.source)
            durable = self.written(copy, result, facts, fingerprint)
        return self.finish(copy, durable, timings, started)

    def written(
        self, copy: DurableCopy, result: dict[str, Any], facts: dict[str, Any], fingerprint: str | None
    ) -> Durable:
        """The durable copy, or what it would be where nobody wants JSON. Raises RunnerError."""
        if self.in_pod or "json" in self.settings.formats:
            with profile.stage(profile.WRITE):
                return copy.write(result, facts, fingerprint=fingerprint)
        return Durable(path=copy.json_path, data=render(result, "json"), result=result, facts=facts)

    def _transcribe(self, source: Source) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
        """Whisper's JSON, the facts for the receipt, and the times taken."""
        self.loader.start()
        timings: dict[str, float] = {}
        with self.fetched(source, timings) as audio:
            self._tell("loading the model")
            result, duration = self.listen(source, audio, timings)
        return result, self.facts(source, result, duration, timings), timings

    @contextlib.contextmanager
    def fetched(self, source: Source, timings: dict[str, float]) -> Iterator[Path]:
        """The source as a local file, for as long as the context lasts. Raises RunnerError."""
        begun = time.monotonic()
        self._tell(f"fetching {source.shown}")
        meter = Meter(None, what=source.shown)
        with contextlib.ExitStack() as kept:
            with profile.stage(profile.FETCH):
                audio = kept.enter_context(fetched(source, on_progress=meter.at))
            timings["fetch"] = time.monotonic() - begun
            meter.finish()
            _log.info("%s: %s", source.shown, human_bytes(audio.stat().st_size))
            yield audio

    def listen(self, source: Source, audio: Path, timings: dict[str, float]) -> tuple[dict[str, Any], float]:
        """Whisper's JSON of one file, and the seconds of its sound. Raises RunnerError."""
        engine, transcribe, _ = self.loader.wait()
        timings["load"] = self.loader.seconds
        begun = time.monotonic()
        watch = Watch(source.shown, self._reporter, self._printer)
        try:
            result = transcribe(engine, audio, self.settings.options, on_progress=watch)
        except RunnerError as error:
            raise named(error, audio, source) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error) from error
        finally:
            watch.close()
        timings["transcribe"] = time.monotonic() - begun
        return result, watch.duration

    def facts(
        self, source: Source, result: dict[str, Any], duration: float, timings: dict[str, float]
    ) -> dict[str, Any]:
        """What the receipt says of a transcript, told in the log too. duration: seconds, 0 where nobody said."""
        if not duration and result["segments"]:
            duration = float(result["segments"][-1]["end"])
        engine, _, _ = self.loader.wait()
        model = cast(cache.CachedModel, self.loader.model)
        speed = duration / timings["transcribe"] if timings["transcribe"] > 0 else 0.0
        _log.info(
            "%s: %s of audio in %.1f s (%.1f times real time), language %s, %d segments",
            source.shown,
            human_seconds(duration),
            timings["transcribe"],
            speed,
            result.get("language"),
            len(result["segments"]),
        )
        return {
            "duration": round(duration, 3),
            "speed": round(speed, 3),
            "model": model.shown,
            "commit": model.commit,
            "device": device_of(engine),
        }

    def finish(self, copy: DurableCopy, durable: Durable, timings: dict[str, float], started: float) -> dict[str, Any]:
        """Everything after the durable JSON: other formats, the user's output, the resource's status, the receipt."""
        with profile.stage(profile.WRITE):
            return self._finish(copy, durable, timings, started)

    def _finish(self, copy: DurableCopy, durable: Durable, timings: dict[str, float], started: float) -> dict[str, Any]:
        settings = self.settings
        self.last_result = durable.result
        if self._printer is not None:
            self._printer.whole(durable.result)
        others = [name for name in settings.formats if name != "json"]
        copy.write_formats(durable.result, others, settings.layout)
        url = None
        if settings.output is not None:
            files = {f"{copy.name}.json": durable.data} if "json" in settings.formats else {}
            for name in others:
                files[f"{copy.name}.{name}"] = render(durable.result, name, settings.layout)
            addresses = deliver(settings.output, files)
            url = addresses.get(f"{copy.name}.json") or next(iter(addresses.values()), None)
            _log.info("copied to %s", ", ".join(addresses.values()))
        duration, speed = float(durable.facts.get("duration") or 0), float(durable.facts.get("speed") or 0)
        if self._reporter is not None:
            delivery = self._reporter.result(durable.result, duration=duration, speed=speed)
        else:
            value, truncated = inline(durable.result, DEFAULT_INLINE_LIMIT)
            delivery = Delivery(delivered=False, digest=digest(value), truncated=truncated)
        if self.ephemeral and url is None:
            see_that_nothing_is_lost(delivery, len(durable.data))
        timings["total"] = time.monotonic() - started
        return {
            "version": VERSION,
            "result": {
                "path": None if self.ephemeral else self._shown_path(durable.path),
                "url": url,
                "sha256": durable.sha256,
                "bytes": len(durable.data),
                "digest": delivery.digest,
            },
            "text": str(durable.result.get("text", ""))[:_RECEIPT_TEXT],
            "language": durable.result.get("language"),
            "duration": duration,
            "segments": len(durable.result.get("segments", [])),
            "delivered": delivery.delivered,
            "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
            "model": durable.facts.get("model"),
            "device": durable.facts.get("device"),
            "version_runner": runner_version(),
        } | self._cache()

    def _cache(self) -> dict[str, Any]:
        """The receipt's `cache`: what loading the model read, and what is free where it lies."""
        model = self.loader.model
        if model is None or model.repo is None:
            return {}
        return {"cache": {"bytesRead": cache.bytes_of(model), "freeBytes": free_bytes(model.path)}}

    def _shown_path(self, path: Path) -> str:
        """In a pod the path on the shared volume, which the operator knows; else the path here."""
        job = self._environ.get("TRANSCRIPTION_JOB")
        return f"transcripts/{job}/{path.name}" if job else str(path)

    def _fingerprint(self, source: Source) -> str:
        """What makes two attempts attempts at the same thing.

        A resource that is deleted and made anew under its name shares the folder, and must not get the old transcript:
        the pod's name, which begins with its Job's, tells them apart.
        """
        series = self._environ.get("TRANSCRIPTION_JOB_UID") or self._environ.get("HOSTNAME", "").rpartition("-")[0]
        settings = self.settings
        described: dict[str, Any] = {
            "job": self._environ.get("TRANSCRIPTION_JOB"),
            "series": series,
            "source": source.text,
            "model": settings.model.shown,
            "engine": settings.engine,
            "options": dataclasses.asdict(settings.options),
        }
        if settings.adapter is not None:
            described["adapter"] = settings.adapter.shown
        if source.is_local:
            status = source.path.stat()
            described["file"] = [status.st_size, status.st_mtime_ns]
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()

    def _tell(self, message: str) -> None:
        if self._reporter is not None:
            self._reporter.progress(processed=0, total=None, speed=None, message=message)


class Watch:
    """Takes the transcription's progress and shows it: on the terminal, in the log, in the resource."""

    def __init__(self, shown: str, reporter: Reporter | None, printer: Printer | None = None) -> None:
        """Watch the source called `shown`."""
        self._shown = shown
        self._reporter = reporter
        self._printer = printer
        self._bar = Bar(terminal=None if reporter is None else False)
        self.duration = 0.0

    def __call__(self, progress: Progress) -> None:
        """Called by the transcription with seconds of audio done and in all, and the speed (times real time)."""
        processed, total, speed = progress.processed_seconds, progress.total_seconds, progress.speed
        self.duration = max(self.duration, total or processed or 0.0)
        if self._printer is not None:
            self._printer.so_far(progress.language, progress.segments)
        text = how_far(processed, total, speed)
        self._bar.show(self._shown, processed, total or processed, text)
        if self._reporter is not None:
            self._reporter.progress(processed=processed, total=total, speed=speed, message=text)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.close()


def check_source(source: Source) -> None:
    """See that a local source is there. Raises RunnerError."""
    if source.is_local:
        check_local(source.path)


def how_far(processed: float, total: float, speed: float) -> str:
    """How far a transcription is, its speed, and what is left of it. processed, total: seconds of sound."""
    text = f"{human_seconds(processed)} of {human_seconds(total)}" if total else human_seconds(processed)
    if speed:
        text += f", {speed:.1f} times real time"
        if total:
            text += f", {human_seconds((total - processed) / speed)} left"
    return text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of whatever kind says that memory was not enough."""
    return isinstance(error, (MemoryError, OutOfMemory)) or "out of memory" in str(error).lower()


def named(error: RunnerError, path: Path, source: Source) -> RunnerError:
    """The same error, naming the source that the user gave and not the file it was fetched into."""
    text = error.message.replace(str(path), source.shown)
    if source.shown not in text and source.name not in text and isinstance(error, BadAudio):
        text = f"{source.shown}: {text}"
    error.message = text
    error.args = (text,)
    return error


def out_of_memory(error: BaseException) -> OutOfMemory:
    """The device's or the container's memory was not enough."""
    return OutOfMemory(
        f"Out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        hint="Use a smaller --batch_size or model, or give the pod more memory (spec.resources).",
    )


class ResultTooLarge(OutputFailed):
    """Another try would make the same result: it is not tried again."""

    exit_code = 64


def see_that_nothing_is_lost(delivery: Delivery, size: int) -> None:
    """Where nothing but the resource holds the result, all of it must have arrived. size: bytes of the JSON.

    Raises ResultTooLarge, Temporary.
    """
    if delivery.truncated:
        raise ResultTooLarge(
            f"The result has {human_bytes(size)}, more than a status may hold, and there is no shared volume to keep "
            "it on: status.result has its beginning.",
            hint="Set spec.output.url, or have the operator's inlineLimitBytes raised, or give it a cache.volume.",
        )
    if not delivery.delivered:
        raise Temporary(
            "The API server did not take the result, and there is no shared volume to keep it on.",
            hint="It is transcribed again. Set spec.output.url, and a result is never at the API server alone.",
        )


def internal(error: BaseException) -> Internal:
    """An error that nobody foresaw."""
    detail = str(error).splitlines()[0] if str(error) else ""
    return Internal(
        f"{type(error).__name__}: {detail}".rstrip(": "),
        hint="This is a defect of the runner: its log has the traceback. Please report it.",
    )
