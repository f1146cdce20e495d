"""Windows a second of a real architecture with random weights and a fixed number of tokens a window.

`python -m bench.transcribe --synthetic large-v3` asks a process of its own for each program
(`python -m bench.synthetic PROGRAM FOLDER …`), which prints a line of JSON for each batch size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import cublas, limit, machine, plots
from bench.limit import SIZES, WINDOW
from bench.report import table
from bench.worker import WorkerError, call, gpu_megabytes, limit_threads, peak_megabytes

#: A rate is measured over so many seconds at least, and so many batches.
_SECONDS = 3.0
_BATCHES = 2
#: How the trouble of a program that is not there begins.
MISSING = "not installed"


@dataclass(frozen=True)
class Rate:
    """What a program did at one batch size: windows a second, and its memory; or why not."""

    batch_size: int
    windows: float = 0.0
    megabytes: float = 0.0
    gpu_megabytes: float = 0.0
    trouble: str | None = None


@dataclass(frozen=True)
class Run:
    """What a program is to be run on."""

    folder: Path
    size: str
    tokens: int
    device: str
    precision: str
    threads: int


# ---------------------------------------------------------------------------------------------------------------------
# Ours: the one place that knows the engine's inside.


def windows_per_second(engine: Any, batch_size: int, tokens: int, *, beams: int | None = None) -> float:
    """Windows that our engine takes from samples to text in a second: `batch_size` at once, `tokens` tokens each.

    The end of text is suppressed, and a window is left after its token number `tokens`. As in a long run, windows come
    and go: the next are encoded while others are decoded.
    """
    from transcription_runner.lane import Lane, Task
    from transcription_runner.mel import Sound
    from transcription_runner.options import TranscribeOptions
    from transcription_runner.windows import Cut, Decode

    class Fixed(Lane):
        def _method(self, temperature: float) -> Any:
            method = super()._method(temperature)
            return replace(method, suppress=(*method.suppress, engine.tokenizer.eot), sample_len=tokens)

    options = TranscribeOptions(temperature=0.0, beam_size=beams)
    lane = Fixed(engine, options, batch_size=batch_size)
    sounds = [Sound(((each * 10_000).astype(np.int16),), 0.0) for each in np.split(noise(30.015 * 4), 4)]
    request = Decode(Cut(((0, 3000),)), (), "en", 0.0)

    def run(count: int) -> None:
        given = done = 0
        while done < count:
            while given < count and lane.load < 2 * batch_size:
                lane.give(Task(given, given, request, sounds[given % len(sounds)]))
                given += 1
            for number, _ in lane.work():
                lane.forget(number, request.cut)
                done += 1

    count = 3 * batch_size
    return count / seconds_of(lambda: run(count), engine.device)


def _ours(run: Run) -> Callable[[int], float]:
    from transcription_runner.engine import load_engine

    engine = load_engine(run.folder, device=run.device, compute_type=run.precision, threads=run.threads)  # type: ignore[arg-type]
    return lambda batch_size: windows_per_second(engine, batch_size, run.tokens)


# ---------------------------------------------------------------------------------------------------------------------
# The peers.


def _generate(run: Run) -> Callable[[int], float]:
    """transformers' model and its generate(), from the spectrogram on: what the pipeline cannot be faster than."""
    import torch
    from transformers import WhisperForConditionalGeneration, logging

    logging.set_verbosity_error()
    kind = getattr(torch, run.precision)
    model = WhisperForConditionalGeneration.from_pretrained(run.folder, dtype=kind, attn_implementation="sdpa")
    model = model.to(run.device).eval()

    def rate(batch_size: int) -> float:
        mel = torch.from_numpy(features(SIZES[run.size].num_mel_bins, batch_size)).to(run.device, kind)

        def batch() -> None:
            found = model.generate(
                mel,
                max_new_tokens=run.tokens,
                min_new_tokens=run.tokens,
                do_sample=False,
                num_beams=1,
                **spoken_language(run.size),
            )
            if len(found) != batch_size or not run.tokens <= found.shape[1] <= run.tokens + 4:
                raise RuntimeError(f"generate() gave {tuple(found.shape)}, and not {run.tokens} tokens")

        return batch_size / seconds_of(batch, run.device)

    return rate


def _pipeline(run: Run) -> Callable[[int], float]:
    """transformers' pipeline on sound, as its documentation has it: chunks of 30 s, each overlapping its neighbours."""
    spoken = pipeline_of(run.folder, run.device, run.precision)

    def rate(batch_size: int) -> float:
        # A chunk is 30 s, of which 5 s at either end are its neighbours': the sound is as long as two batches hold.
        heard = noise(20.0 * 2 * batch_size + 10.0)
        asked = {"max_new_tokens": run.tokens, "min_new_tokens": run.tokens, "do_sample": False, "num_beams": 1}

        def batch() -> None:
            sound = {"raw": heard, "sampling_rate": 16_000}
            spoken(sound, batch_size=batch_size, generate_kwargs={**asked, **spoken_language(run.size)})

        # By the sound that it wrote down: overlaps are its own doing.
        return len(heard) / 16_000 / WINDOW / seconds_of(batch, run.device)

    return rate


def _ctranslate2(run: Run) -> Callable[[int], float]:
    """CTranslate2's own generate(), from the spectrogram on: what faster-whisper cannot be faster than."""
    import ctranslate2

    from bench.random_model import vocabulary

    folder = converted(run.folder, run.precision)
    model = ctranslate2.models.Whisper(
        str(folder), device=run.device, compute_type=run.precision, intra_threads=run.threads
    )
    words = vocabulary(run.size)
    start = [words.start, *([words.languages["<|en|>"], words.transcribe] if words.multilingual else [])]
    prompt = [*start, words.no_timestamps]
    silent = [words.end]

    def rate(batch_size: int) -> float:
        mel = ctranslate2.StorageView.from_array(features(SIZES[run.size].num_mel_bins, batch_size))

        def batch() -> None:
            found = model.generate(
                mel,
                [prompt] * batch_size,
                beam_size=1,
                # It takes half of this for what is written, as of Whisper's 448 places.
                max_length=2 * run.tokens,
                suppress_tokens=silent,
                suppress_blank=False,
            )
            lengths = {len(each.sequences_ids[0]) for each in found}
            if lengths != {run.tokens}:
                raise RuntimeError(f"CTranslate2 gave {lengths}, and not {run.tokens} tokens")

        return batch_size / seconds_of(batch, run.device)

    return rate


def pipeline_of(folder: Path, device: str, precision: str) -> Any:
    """transformers' pipeline as its documentation has it for long sound: chunks of 30 s."""
    import torch
    from transformers import logging, pipeline

    logging.set_verbosity_error()
    return pipeline(
        "automatic-speech-recognition",
        model=str(folder),
        dtype=getattr(torch, precision),
        device=device,
        chunk_length_s=30,
        model_kwargs={"attn_implementation": "sdpa"},
        ignore_warning=True,
    )


def converted(folder: Path, precision: str) -> Path:
    """The model as CTranslate2 reads it, beside the weights."""
    from bench.conversion import convert

    target = folder / f"ctranslate2-{precision}"
    if not target.exists():
        convert(folder, target, precision)
    return target


def spoken_language(size: str) -> dict[str, str]:
    """What transformers is told of the language: nothing where a model knows one alone."""
    return {} if size.endswith(".en") else {"language": "en", "task": "transcribe"}


PROGRAMS: dict[str, Callable[[Run], Callable[[int], float]]] = {
    "ours": _ours,
    "transformers generate": _generate,
    "transformers pipeline": _pipeline,
    "ctranslate2 generate": _ctranslate2,
}


# ---------------------------------------------------------------------------------------------------------------------
# Measuring.


def features(bands: int, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Spectrograms of nothing in particular, (count, bands, 3000)."""
    return np.random.default_rng(0).standard_normal((count, bands, 3000), dtype=np.float32)


def noise(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Hiss at 16 kHz."""
    return np.random.default_rng(0).standard_normal(round(seconds * 16_000), dtype=np.float32) * np.float32(0.1)


def seconds_of(work: Callable[[], None], device: str) -> float:
    """The mean of several calls, after one that does not count (kernels are chosen and graphs captured in it)."""

    def wait() -> None:
        torch = sys.modules.get("torch")
        if device == "cuda" and torch is not None:
            torch.cuda.synchronize()

    work()
    wait()
    began, count = time.perf_counter(), 0
    while count < _BATCHES or time.perf_counter() - began < _SECONDS:
        work()
        wait()
        count += 1
    return (time.perf_counter() - began) / count


def rates(program: str, run: Run, batch_sizes: Sequence[int]) -> Iterator[Rate]:
    """One batch size after the other, until one does not fit."""
    limit_threads(run.threads)
    try:
        rate = PROGRAMS[program](run)
    except ImportError as error:
        yield Rate(0, trouble=f"{MISSING} ({error.name})")
        return
    for batch_size in batch_sizes:
        try:
            windows = rate(batch_size)
        except Exception as error:  # noqa: BLE001 - each library has its own for memory
            yield Rate(batch_size, trouble=(str(error).splitlines() or [repr(error)])[0][:120])
            return
        yield Rate(batch_size, windows, peak_megabytes(), gpu_megabytes())


def _told(program: str, run: Run, batch_sizes: Sequence[int], environ: Mapping[str, str]) -> list[Rate]:
    """The same in a process of its own."""
    words = [program, json.dumps({**asdict(run), "folder": str(run.folder)}), json.dumps(list(batch_sizes))]
    try:
        lines = call("bench.synthetic", words, run.threads, environ)
    except WorkerError as error:
        return [Rate(0, trouble=str(error))]
    return [Rate(**json.loads(line)) for line in lines if line.startswith("{")]


# ---------------------------------------------------------------------------------------------------------------------
# The comparison.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("random weights")
    group.add_argument("--synthetic", choices=sorted(SIZES), metavar="SIZE", help=", ".join(SIZES))
    group.add_argument("--tokens", type=int, default=100, help="a window")
    group.add_argument("--precision", choices=["float32", "float16", "bfloat16"], help="float16 on a GPU")
    group.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="PROGRAM")
    group.add_argument("--scratch", type=Path, help="where the model is kept from call to call")


def compare(asked: argparse.Namespace) -> tuple[str, str, bool]:
    """Run the programs and draw a plot if wanted.

    Returns the name of the report's part, the part, and whether a program that is there could not be run.
    """
    precision = asked.precision or ("float16" if asked.device == "cuda" else "float32")
    batch_sizes = asked.batch_sizes or ([1, 8, 16, 32, 64, 128] if asked.device == "cuda" else [1, 2, 4])
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.scratch or Path(scratch)) / f"random-{asked.synthetic}"
        if not (folder / "model.safetensors").exists():
            call("bench.random_model", [asked.synthetic, str(folder)], asked.threads)
        run = Run(folder, asked.synthetic, asked.tokens, asked.device, precision, asked.threads)
        environ = cublas.environment(Path(scratch) / "cublas") if asked.device == "cuda" else {}
        found = machine.find(asked.device, asked.threads)
        print("\n".join(found.lines()), flush=True)
        told: dict[str, list[Rate]] = {}
        for program in asked.programs:
            told[program] = _told(program, run, batch_sizes, environ if program.startswith("ctranslate2") else {})
            for rate in told[program]:
                print(f"{program}, {rate.batch_size}: {rate.trouble or f'{rate.windows:.2f} windows/s'}", flush=True)
    text = part(run, found, told)
    if asked.plots:
        file = asked.into / "results" / f"synthetic-{run.size}-{run.device}.svg"
        title = f"{run.size}, random weights, {run.tokens} tokens a window, {found.name}"
        series = {
            name: [(rate.batch_size, rate.windows * WINDOW) for rate in every if not rate.trouble]
            for name, every in told.items()
        }
        plots.lines(file, series, title=title, across="windows at once", up="× real time", doubling=True)
        text += f"\n\n![{title}](results/{file.name})"
    failed = any(rate.trouble and not rate.trouble.startswith(MISSING) for every in told.values() for rate in every[:1])
    return f"synthetic {run.size} {run.device}", text, failed


HEAD = (
    *("program", "windows at once", "windows/s", "× real time", "ours is faster by", "share of the limit"),
    *("share, encoder and decoder overlapping", "memory, MB", "GPU memory (torch), MB"),
)


def part(run: Run, found: machine.Found, told: Mapping[str, Sequence[Rate]]) -> str:
    """The part of the report."""
    sizes, device = SIZES[run.size], found.machine(run.precision)
    best = max((rate.windows for rate in told.get("ours", ())), default=0.0)
    width = 4 if run.precision == "float32" else 2
    rows = []
    for program, every in told.items():
        for rate in every:
            if rate.trouble:
                rows.append([program, str(rate.batch_size or ""), rate.trouble, *[""] * (len(HEAD) - 3)])
                continue
            least = least_of(sizes, device, rate.batch_size, run.tokens, width)
            rows.append(
                [
                    program,
                    str(rate.batch_size),
                    f"{rate.windows:.2f}",
                    f"{rate.windows * WINDOW:.1f}",
                    f"{best / rate.windows:.2f}" if best else "",
                    *(f"{rate.windows * seconds / rate.batch_size:.0%}" for seconds in (least.apart, least.together)),
                    f"{rate.megabytes:.0f}",
                    f"{rate.gpu_megabytes:.0f}" if rate.gpu_megabytes else "",
                ]
            )
    weights, cache = (count(sizes, width) / 1e6 for count in (limit.weight_bytes, limit.cross_bytes))
    about = (
        f"Random weights in {run.precision}, {run.tokens} tokens a window, greedy. An encoder pass is "
        f"{limit.encoder_flops(sizes) / 1e9:,.0f} GFLOP a window, the cross-attention's keys and values "
        f"{limit.cross_flops(sizes) / 1e9:,.0f}; a step reads {weights:,.0f} MB of weights once and {cache:,.0f} MB of "
        "cache for every window. `ours is faster by` is against our best batch size."
    )
    head = f"## {run.size} with random weights"
    return "\n\n".join([head, "\n".join(found.lines()), about, table(HEAD, rows)])


def least_of(sizes: limit.Sizes, device: limit.Machine, batch_size: int, tokens: int, width: int) -> limit.Floor:
    """A processor's bandwidth is not measured: only its FLOPs count."""
    measured = device if device.bandwidth else limit.Machine(device.flops, math.inf)
    return limit.floor(sizes, measured, batch_size, tokens, width)


def main() -> None:
    program, given, batch_sizes = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    run = Run(**{**given, "folder": Path(given["folder"])})
    for rate in rates(program, run, batch_sizes):
        print(json.dumps(asdict(rate)), flush=True)


if __name__ == "__main__":
    main()
