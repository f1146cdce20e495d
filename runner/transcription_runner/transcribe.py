"""From a file to openai-whisper's JSON."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transcription_runner import errors, profile, prompts
from transcription_runner.ahead import Ahead, Place
from transcription_runner.audio import SAMPLE_RATE, AudioFile, Samples
from transcription_runner.batched import Batched, pack
from transcription_runner.decoders import Decoders
from transcription_runner.engine import Engine
from transcription_runner.heap import Heap
from transcription_runner.lane import Lane
from transcription_runner.options import TranscribeOptions
from transcription_runner.quiet import DigitalSilence
from transcription_runner.recording import Listener, Recording, Room, room_for
from transcription_runner.scheduler import Job, Scheduler, Server
from transcription_runner.sequential import Sequential, clip_frames
from transcription_runner.threads import decodes_elsewhere, one_thread, readers_for
from transcription_runner.vad import LevelMeter, SpeechDetector, breath, quietest, speech_spans, within
from transcription_runner.windows import Cut, Machine, Segment

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is: seconds of its sound, and seconds of sound dealt with in a second."""

    processed_seconds: float
    total_seconds: float
    speed: float
    language: str | None = None
    segments: Sequence[Segment] = ()
    """What is written so far and stays, where a file is gone through in order; else nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: its result, or the error that only this file has."""

    path: Path
    result: dict[str, Any] | None = None
    error: errors.RunnerError | None = None
    duration: float = 0.0
    """Seconds of its sound."""


def transcribe(
    engine: Engine,
    audio: Path,
    options: TranscribeOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Transcribe one file.

    Returns openai-whisper's JSON as plain values: text, language, and segments with id, seek, start, end, text,
    tokens, temperature, avg_logprob, compression_ratio, no_speech_prob (and words). Raises errors.BadAudio,
    errors.SourceMissing, errors.PermissionDenied, errors.Usage, errors.OutOfMemory.
    """
    report = None if on_progress is None else lambda _, progress: on_progress(progress)
    (outcome,) = transcribe_many(engine, [audio], options, on_progress=report)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result or {}


def transcribe_many(
    engine: Engine,
    files: Iterable[Path],
    options: TranscribeOptions,
    *,
    on_progress: Callable[[Path, Progress], None] | None = None,
) -> Generator[Outcome]:
    """Transcribe files with windows of many of them in one batch; yields each as it is finished.

    `files` may do work of its own (fetch them): it is gone through in other threads, some files ahead. A file that
    cannot be read is an Outcome with an error, and no harm to the others. Raises errors.OutOfMemory and errors.Usage,
    which concern all.
    """
    options = _for_model(engine, options)
    lane = Lane(engine, options, batch_size=options.batch_size)
    servers: list[Server] = [lane]
    if engine.workers:
        from transcription_runner.pool import Pool

        servers.append(Pool(engine.workers, options))
    scheduler = Scheduler(servers)
    batch_size = sum(server.batch_size for server in servers)
    opened: dict[Job, _Opened] = {}
    failed: list[Outcome] = []
    heap = Heap()
    room = room_for(engine.device, batch_size)
    decoders = Decoders() if decodes_elsewhere(engine.device) else None
    opener = decoders.open if decoders else AudioFile
    readers = readers_for(engine.device)
    ahead: Ahead[Path, Job] = Ahead(
        files,
        lambda path, place: _open(engine, opener(path), options, room, place),
        threads=readers,
        most=readers + batch_size,
        errors=(errors.RunnerError,),
        drop=lambda job: job.recording.close(),
        begin=one_thread,
    )

    def jobs() -> Iterator[Job | None]:
        for path, found in profile.each(profile.WAIT, ahead):
            if isinstance(found, Job):
                opened[found] = _Opened(path, time.monotonic())
                yield found
            elif isinstance(found, errors.RunnerError):
                failed.append(Outcome(path, error=found))
                yield None

    def report(job: Job) -> None:
        heap.tidy()
        if on_progress is not None:
            on_progress(opened[job].path, opened[job].progress(job))

    try:
        for job in scheduler.run(jobs(), report, lambda: ahead.ready):
            job.recording.close()
            ahead.nudge()
            yield from failed
            failed.clear()
            yield Outcome(
                opened.pop(job).path, result=plain(job.machine.result()), duration=job.recording.samples / SAMPLE_RATE
            )
        yield from failed
    except Exception:
        ahead.close(patience=None)  # whoever goes on with the files finds nobody else at them
        raise
    finally:
        ahead.close()
        for job in opened:
            job.recording.close()
        if decoders:
            decoders.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    path: Path
    since: float

    def progress(self, job: Job) -> Progress:
        total = job.recording.samples / SAMPLE_RATE
        processed = min(total, job.machine.position / 100) if not job.machine.done else total
        speed = processed / max(1e-6, time.monotonic() - self.since)
        return Progress(processed, total, speed, job.machine.language, job.machine.segments)


def _for_model(engine: Engine, options: TranscribeOptions) -> TranscribeOptions:
    """The options as this model can take them."""
    if not engine.multilingual:
        if options.language not in (None, "en") or options.task == "translate":
            _log.warning("this model knows English only: transcribing English")
        options = replace(options, language="en", languages=(), multilingual=False, task="transcribe")
    hotwords, left_out = prompts.hotword_tokens(engine.tokenizer, options.hotwords, engine.prompt_length)
    if left_out:
        _log.warning("the hotwords are too long: %d tokens are used; left out: %s", len(hotwords), left_out)
    if options.initial_prompt:
        length = len(engine.tokenizer.encode(" " + options.initial_prompt.strip()))
        room = engine.prompt_length - len(hotwords)
        if length > room:
            _log.warning("the prompt is %d tokens long: only its last %d are used", length, room)
    if options.word_timestamps and options.task == "translate":
        _log.warning("word times of translations may be far off")
    return options


def _open(engine: Engine, file: AudioFile, options: TranscribeOptions, room: Room, place: Place[Path, Job]) -> Job:
    """Hear a file as soon as there is room for its sound."""
    recording = Recording(file, engine.mel, room)
    try:
        place.wait(lambda: recording.reserve(options.clips))
        return Job(recording, _machine(engine, recording, options, _Heed(place)))
    except BaseException:
        recording.close()
        raise


class _Heed:
    """Listens for the end of interest in a file."""

    def __init__(self, place: Place[Path, Job]) -> None:
        self._place = place

    def add(self, start: int, samples: Samples) -> None:  # noqa: ARG002  # a Listener's
        """Raise ahead.Stopped if nobody wants the file any more."""
        self._place.check()


def _machine(engine: Engine, recording: Recording, options: TranscribeOptions, heed: Listener) -> Machine:
    if options.mode == "sequential":
        silence = DigitalSilence()
        recording.scan(options.clips, [heed, silence])
        return Sequential(
            options,
            engine.tokenizer,
            frames=recording.frames,
            language=options.language,
            prompt_length=engine.prompt_length,
            silent=silence.covers,
        )
    return Batched(
        options,
        engine.tokenizer,
        cuts=_cuts(recording, options, heed),
        frames=recording.frames,
        language=options.language,
        prompt_length=engine.prompt_length,
    )


def _cuts(recording: Recording, options: TranscribeOptions, heed: Listener) -> list[Cut]:
    """The windows of a recording, from its silences or, without VAD, from its quietest moments."""
    long = recording.is_long(options.clips)
    ear = SpeechDetector(beside=long) if options.vad.enabled else LevelMeter()
    with contextlib.closing(ear):
        recording.scan(options.clips, [heed, ear])
        with profile.stage(profile.VAD):
            ear.finish()
    with profile.stage(profile.VAD):
        stretches = ear.stretches
        clips = clip_frames(options, recording.frames)
        if options.vad.enabled:
            spans = within(speech_spans(stretches, options.vad, recording.samples), clips)
        else:
            spans = [clip for clip in clips if clip[0] < clip[1]]
        return pack(
            spans,
            lambda first, last: quietest(stretches, first, last),
            lambda first, last: breath(stretches, options.vad, first, last) if options.vad.enabled else None,
        )


def plain(value: Any) -> Any:
    """The same as plain JSON: Python's own numbers, and none that JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else 0.0 if math.isnan(value) else math.copysign(1e9, value)
    return value
