"""Ours and the peers, each loaded and called in the way that its own documentation shows.

A program takes a job and returns what transcribes its files. It is imported only when its job is run, in a process of
its own (`bench/worker.py`).
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Program = Literal["ours", "openai-whisper", "transformers", "faster-whisper"]
Settings = Literal["greedy", "default"]
Run = Callable[[Sequence[Path]], list[str]]


class MissingError(Exception):
    """The program, or this way of running it, is not there."""


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    model: the folder or file that the program reads. mode: `sequential` goes through a file window by window,
    `batched` cuts it up. settings: `greedy` is one beam at temperature 0 and nothing tried again, in every program;
    `default` is what each does when it is told nothing. batch_size: windows at once, None for the program's own.
    """

    program: Program
    model: str
    mode: Literal["sequential", "batched"]
    settings: Settings
    files: tuple[str, ...]
    warm: str
    precision: str = "float32"
    batch_size: int | None = None
    language: str = "en"
    english_only: bool = False
    timestamps: bool | None = None
    threads: int = 2
    device: str = "cpu"


def load(job: Job) -> Run:
    """Load the job's program. Raises MissingError."""
    try:
        return _LOADERS[job.program](job)
    except ImportError as error:
        raise MissingError(f"not installed ({error.name})") from error


def samples(file: Path) -> NDArray[np.float32]:
    """A WAV file of 16 kHz and 16 bits: for programs that would call the ffmpeg command, which may not be there."""
    with wave.open(str(file)) as stream:
        raw = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
    return raw.astype(np.float32) / np.float32(32768)


def _ours(job: Job) -> Run:
    from transcription_runner import errors
    from transcription_runner.engine import load_engine
    from transcription_runner.options import TranscribeOptions
    from transcription_runner.transcribe import transcribe_many

    options: dict[str, Any] = {"mode": job.mode, "language": job.language, "batch_size": job.batch_size}
    if job.settings == "greedy":
        options |= {"beam_size": None, "temperature": (0.0,)}
    asked = TranscribeOptions(**options)
    try:
        engine = load_engine(Path(job.model), device=job.device, compute_type=job.precision, threads=job.threads)  # type: ignore[arg-type]
    except (KeyError, errors.Usage) as error:
        raise MissingError(f"no compute_type {job.precision} ({error})") from error

    def run(files: Sequence[Path]) -> list[str]:
        texts = {}
        for outcome in transcribe_many(engine, files, asked):
            if outcome.error is not None:
                raise outcome.error
            texts[outcome.path] = (outcome.result or {})["text"]
        return [texts[file] for file in files]

    return run


def _openai_whisper(job: Job) -> Run:
    import whisper

    model = whisper.load_model(job.model, device=job.device)
    asked: dict[str, Any] = {"language": job.language, "verbose": None, "fp16": job.precision == "float16"}
    # The defaults are those of its command, whose search has five beams; its function's has one.
    asked |= {"temperature": 0.0} if job.settings == "greedy" else {"beam_size": 5, "best_of": 5}

    return lambda files: [model.transcribe(samples(file), **asked)["text"] for file in files]


def _transformers(job: Job) -> Run:
    import torch
    from transformers import logging, pipeline

    logging.set_verbosity_error()
    form: dict[str, Any] = {"return_timestamps": True} if job.mode == "sequential" else {"chunk_length_s": 30}
    if job.batch_size is not None:
        form["batch_size"] = job.batch_size
    spoken = pipeline(
        "automatic-speech-recognition",
        model=job.model,
        dtype=getattr(torch, job.precision),
        device=job.device,
        ignore_warning=True,
        **form,
    )
    asked: dict[str, Any] = {} if job.english_only else {"language": job.language, "task": "transcribe"}
    if job.settings == "greedy":
        asked |= {"num_beams": 1, "do_sample": False}

    def run(files: Sequence[Path]) -> list[str]:
        heard = ({"raw": samples(file), "sampling_rate": 16_000} for file in files)
        return [spoken(each, generate_kwargs=dict(asked))["text"] for each in heard]

    return run


def _faster_whisper(job: Job) -> Run:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(job.model, device=job.device, compute_type=job.precision, cpu_threads=job.threads)
    asked: dict[str, Any] = {"language": job.language}
    if job.settings == "greedy":
        asked |= {"beam_size": 1, "temperature": 0.0}
    if job.timestamps is not None:
        asked["without_timestamps"] = not job.timestamps
    transcribe: Callable[..., Any] = model.transcribe
    if job.mode == "batched":
        transcribe = BatchedInferencePipeline(model).transcribe
        if job.batch_size is not None:
            asked["batch_size"] = job.batch_size

    def run(files: Sequence[Path]) -> list[str]:
        # The segments come as they are asked for: the joining is the work.
        return ["".join(segment.text for segment in transcribe(str(file), **asked)[0]) for file in files]

    return run


_LOADERS: dict[Program, Callable[[Job], Run]] = {
    "ours": _ours,
    "openai-whisper": _openai_whisper,
    "transformers": _transformers,
    "faster-whisper": _faster_whisper,
}
