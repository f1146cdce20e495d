"""Where in a recording somebody speaks: Silero VAD, over a stream.

The weights come with the `silero_vad` package, which is not imported (importing it sets torch to one thread). The
network is run here a block of moments at a time: its spectrum and its convolutions for all of them at once, then its
recurrent layer over the block; what it remembers is carried from block to block, so the probabilities are those of its
authors' loop.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from transcription_runner import errors
from transcription_runner.audio import SAMPLE_RATE, Samples
from transcription_runner.mel import HOP, to_float
from transcription_runner.options import VadOptions
from transcription_runner.threads import one_thread

CHUNK: Final = 512
"""Samples of one moment: 32 ms."""
_CONTEXT: Final = 64
_FRAME: Final = 256
_BINS: Final = _FRAME // 2 + 1
_AROUND: Final = 5
"""Moments that are looked at together where a cut is to be made: 160 ms."""
_BEHIND: Final = 2
"""Blocks that a thread of the detector's own may be behind."""
_BREATH: Final = 5
"""Moments without speech that are a pause, if only between two words: 160 ms."""

_State: TypeAlias = tuple[Tensor, Tensor]


class SileroNetwork(nn.Module):
    """Silero VAD's network for 16 kHz, with the names that its weights have.

    Its first layer, a convolution with the windowed waves of a Fourier transform, is a Fourier transform here.
    """

    def __init__(self) -> None:
        """Lay out the layers."""
        super().__init__()
        self.conv1 = nn.Conv1d(_BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)
        self.hann: Tensor
        self.register_buffer("hann", torch.hann_window(_FRAME), persistent=False)

    def look(self, chunks: Tensor) -> Tensor:
        """What each moment is for itself. chunks: (n, 64 + 512), of which 64 lie before it. Returns (n, 128)."""
        x = functional.pad(chunks[:, None], (0, 64), mode="reflect")[:, 0]
        x = torch.stft(x, _FRAME, _FRAME // 2, window=self.hann, center=False, return_complex=True).abs()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()
        return x.squeeze(-1)

    def judge(self, looks: Tensor, state: _State | None) -> tuple[Tensor, _State]:
        """looks: (n, 128), of moments in order, each after the end of the one before. Returns (n,) and a memory."""
        x, state = self.lstm(looks[:, None], state)
        x = self.final_conv(x.relu().transpose(1, 2)).sigmoid()
        return x[:, 0, 0], state


class _Moments:
    """Hears a recording (a Listener of Recording.scan) by moments of 32 ms, and keeps a number for each."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._end = -1
        self._runs: list[tuple[int, list[NDArray[np.float32]]]] = []

    def add(self, start: int, samples: Samples) -> None:
        """Samples, the first of which has index `start` in the file; a jump begins a new stretch."""
        if start != self._end:
            self.finish()
            self._runs.append((start, []))
            self._begin()
        self._end = start + len(samples)
        floats = np.concatenate([self._rest, to_float(samples)])
        whole = len(floats) // CHUNK * CHUNK
        self._rest = floats[whole:]
        self._keep(floats[:whole])

    def finish(self) -> None:
        """The end of the recording: hear its last samples, followed by silence."""
        if len(self._rest):
            self._keep(np.pad(self._rest, (0, CHUNK - len(self._rest))))
            self._rest = np.zeros(0, np.float32)

    @property
    def stretches(self) -> list[tuple[int, NDArray[np.float32]]]:
        """The index of the first sample of every stretch heard, and the number of each 32 ms after it."""
        return [(start, np.concatenate(parts) if parts else np.zeros(0, np.float32)) for start, parts in self._runs]

    def close(self) -> None:
        """The recording is over, or given up."""

    def _begin(self) -> None:
        """A new stretch: nothing of the one before counts."""

    def _keep(self, samples: NDArray[np.float32]) -> None:
        """Keep a number for each moment of these whole ones."""
        raise NotImplementedError


class SpeechDetector(_Moments):
    """The probability of speech, by Silero."""

    def __init__(self, *, beside: bool = False) -> None:
        """Begin a recording. Raises errors.Internal if the package `silero_vad` is not installed.

        beside: a thread of its own goes through the moments in order, while the caller's looks at the next ones.
        """
        super().__init__()
        self._network = _network()
        self._thread = ThreadPoolExecutor(1, "vad", initializer=one_thread) if beside else None
        self._judging: deque[Future[None]] = deque()
        self._begin()

    def finish(self) -> None:
        """The end of the recording: hear its last samples, followed by silence."""
        super().finish()
        self._wait(0)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        self._memory = _Memory()
        self._context = np.zeros(_CONTEXT, np.float32)

    def _keep(self, samples: NDArray[np.float32]) -> None:
        if not len(samples):
            return
        looks, memory, numbers = self._look(samples.reshape(-1, CHUNK)), self._memory, self._runs[-1][1]

        def judge() -> None:
            numbers.append(self._judge(looks, memory))

        if self._thread is None:
            judge()
        else:
            self._judging.append(self._thread.submit(judge))
            self._wait(_BEHIND)

    def _wait(self, most: int) -> None:
        """Until no more than so many blocks are to be gone through."""
        while len(self._judging) > most:
            self._judging.popleft().result()

    @torch.inference_mode()
    def _look(self, chunks: NDArray[np.float32]) -> Tensor:
        """What each of (n, CHUNK) moments is for itself."""
        before = np.concatenate([self._context[None], chunks[:-1, -_CONTEXT:]])
        self._context = chunks[-1, -_CONTEXT:].copy()
        return self._network.look(torch.from_numpy(np.concatenate([before, chunks], axis=1)))

    @torch.inference_mode()
    def _judge(self, looks: Tensor, memory: _Memory) -> NDArray[np.float32]:
        found, memory.state = self._network.judge(looks, memory.state)
        return np.asarray(found.numpy())


class _Memory:
    """What the network remembers of a stretch so far."""

    state: _State | None = None


class LevelMeter(_Moments):
    """The level, in place of the probability where VAD is off: to cut at the quietest."""

    def _keep(self, samples: NDArray[np.float32]) -> None:
        if len(samples):
            self._runs[-1][1].append(np.asarray(np.sqrt((samples.reshape(-1, CHUNK) ** 2).mean(axis=1))))


def speech_spans(
    stretches: Sequence[tuple[int, NDArray[np.float32]]], options: VadOptions, samples: int
) -> list[tuple[int, int]]:
    """Where speech is, as (start, end) in frames of 10 ms, in order and apart. samples: the recording's end."""
    spans: list[tuple[int, int]] = []
    pad = options.speech_pad_ms * SAMPLE_RATE // 1000
    for start, probabilities in stretches:
        limit = min(samples, start + len(probabilities) * CHUNK)
        for first, last in _speech(probabilities, options):
            low = max(start, start + first * CHUNK - pad)
            high = min(limit, start + last * CHUNK + pad)
            span = (low // HOP, -(-high // HOP))
            if spans and span[0] <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], span[1]))
            else:
                spans.append(span)
    return [(low, min(high, samples // HOP)) for low, high in spans if low < min(high, samples // HOP)]


def within(spans: Sequence[tuple[int, int]], clips: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of the spans lies inside the clips. Both in frames, in order and apart."""
    cut = [(max(start, first), min(end, last)) for first, last in clips for start, end in spans]
    return [(start, end) for start, end in cut if start < end]


def quietest(stretches: Sequence[tuple[int, NDArray[np.float32]]], first: int, last: int) -> int:
    """The frame between two frames around which there is the least speech, or sound."""
    for start, values in stretches:
        low = max(0, (first * HOP - start) // CHUNK)
        high = min(len(values), -(-(last * HOP - start) // CHUNK))
        if high - low >= _AROUND:
            around = np.convolve(values[low:high], np.ones(_AROUND) / _AROUND, mode="valid")
            moment = low + int(np.argmin(around)) + _AROUND / 2
            return min(max(first, round((start + moment * CHUNK) / HOP)), last)
    return last


def breath(
    stretches: Sequence[tuple[int, NDArray[np.float32]]], options: VadOptions, first: int, last: int
) -> int | None:
    """The middle of the longest pause between two frames; None where none is as long as a breath."""
    longest, middle = _BREATH - 1, None
    for start, probabilities in stretches:
        low = max(0, -(-(first * HOP - start) // CHUNK))
        high = min(len(probabilities), (last * HOP - start) // CHUNK)
        if low < high:
            quiet = np.concatenate([[False], probabilities[low:high] < _low(options), [False]])
            edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
            for begin, end in edges.tolist():
                if end - begin > longest:
                    longest, middle = end - begin, round((start + (low + (begin + end) / 2) * CHUNK) / HOP)
    return middle


def _low(options: VadOptions) -> float:
    return max(options.threshold - 0.15, 0.01)


def _speech(probabilities: NDArray[np.float32], options: VadOptions) -> list[tuple[int, int]]:
    """Stretches of speech in moments: they begin at the threshold, and end where it stays well below it."""
    pause = options.min_silence_duration_ms * SAMPLE_RATE / 1000 / CHUNK
    least = options.min_speech_duration_ms * SAMPLE_RATE / 1000 / CHUNK
    low = _low(options)
    found: list[tuple[int, int]] = []
    begin: int | None = None
    quiet: int | None = None
    # Only moments that could change something are looked at: hours of silence cost nothing.
    for moment in np.flatnonzero((probabilities >= options.threshold) | _falls(probabilities, low)).tolist():
        if probabilities[moment] >= options.threshold:
            if begin is not None and quiet is not None and moment - quiet >= pause:
                found.append((begin, quiet))
                begin = None
            quiet = None
            if begin is None:
                begin = moment
        elif begin is not None and quiet is None:
            quiet = moment
    if begin is not None:
        found.append((begin, len(probabilities) if quiet is None else quiet))
    return [(first, last) for first, last in found if last - first >= least]


def _falls(probabilities: NDArray[np.float32], low: float) -> NDArray[np.bool_]:
    """The first of every run of moments below `low`."""
    below = probabilities < low
    falls = below.copy()
    falls[1:] &= ~below[:-1]
    return falls


@cache
def _network() -> SileroNetwork:
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise errors.RunnerError(
            "the package silero-vad is not installed", hint="pip install 'transcription-operator[runner]'"
        )
    # The package's safetensors file holds the weights of an older version; those of its TorchScript file are current.
    file = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weights = torch.jit.load(str(file), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    network = SileroNetwork()
    network.load_state_dict({ours: weights[f"_model.{theirs}"] for ours, theirs in _NAMES.items()})
    return network.requires_grad_(False).eval()


_NAMES: Final = {
    **{
        f"conv{layer + 1}.{kind}": f"encoder.{layer}.reparam_conv.{kind}"
        for layer in range(4)
        for kind in ("weight", "bias")
    },
    **{f"lstm.{kind}_{side}_l0": f"decoder.rnn.{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")},
    "final_conv.weight": "decoder.decoder.2.weight",
    "final_conv.bias": "decoder.decoder.2.bias",
}
