"""The log-mel spectrogram that Whisper was trained on, a window at a time.

Its floor lies 8 (in powers of ten) below the loudest moment of the whole file, so `Loudest` finds that first, in a
cheap pass over the stream; after it any window can be computed on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from transcription_runner.audio import SAMPLE_RATE, Samples

HOP: Final = 160
"""Samples from one frame to the next: a frame is 10 ms."""
FRAMES_PER_SECOND: Final = SAMPLE_RATE // HOP
WINDOW_FRAMES: Final = 3000
"""Frames in the encoder's window of 30 s."""
N_FFT: Final = 400
_SILENCE: Final = 1e-10
_BETWEEN: Final = -(-N_FFT // HOP) - 1
"""Frames that would look at two pieces laid end to end."""

REACH: Final = N_FFT // 2
"""Samples that a frame looks at on either side of its middle."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A window's sound, before any arithmetic.

    pieces: stretches of samples laid end to end, each with REACH samples more than its frames at either end.
    loudest: the file's largest log-mel value (see Loudest).
    """

    pieces: tuple[Samples, ...]
    loudest: float


class LogMel:
    """Computes frames for a model's number of mel bands on its device."""

    def __init__(self, bands: int, device: torch.device | str = "cpu") -> None:
        """Prepare for `bands` mel bands (80 or 128) on a torch device."""
        self.bands = bands
        self.device = torch.device(device)
        self._hann = torch.hann_window(N_FFT, device=self.device)
        self._filters = torch.from_numpy(mel_filters(bands)).to(self.device)

    @torch.inference_mode()
    def power(self, samples: torch.Tensor) -> torch.Tensor:
        """Mel power of the frames that fit.

        samples: (…, n), floats in -1 to 1, beginning REACH samples before the middle of the first frame.
        Returns (…, bands, frames), the last of them in the middle of N_FFT whole samples.
        """
        spectrum = torch.stft(samples.to(self.device), N_FFT, HOP, window=self._hann, center=False, return_complex=True)
        return self._filters @ (spectrum.abs() ** 2)

    @torch.inference_mode()
    def windows(self, sounds: Sequence[Sound]) -> torch.Tensor:
        """The log-mel of windows as the encoder takes it: (n, bands, 3000), what is missing to 3000 frames 0."""
        counts = [[(len(piece) - N_FFT) // HOP + 1 for piece in sound.pieces] for sound in sounds]
        # Between two pieces are frames that look at both; those are left out again.
        length = max(sum(each) + _BETWEEN * (len(each) - 1) for each in counts)
        samples = torch.zeros((len(sounds), (length - 1) * HOP + N_FFT), dtype=torch.int16)
        wanted = torch.full((len(sounds), WINDOW_FRAMES), length, dtype=torch.long)
        for row, (sound, each) in enumerate(zip(sounds, counts, strict=True)):
            frame = filled = 0
            for piece, count in zip(sound.pieces, each, strict=True):
                used = (count - 1) * HOP + N_FFT
                samples[row, frame * HOP : frame * HOP + used] = torch.from_numpy(piece[:used])
                wanted[row, filled : filled + count] = torch.arange(frame, frame + count)
                filled += count
                frame += count + _BETWEEN
        if self.device.type == "cuda":
            samples, wanted = samples.pin_memory(), wanted.pin_memory()
        samples = samples.to(self.device, non_blocking=True).float() / 32768.0
        floor = torch.tensor([sound.loudest - 8.0 for sound in sounds]).to(self.device)[:, None, None]
        log = torch.clamp(self.power(samples), min=_SILENCE).log10()
        scaled = (torch.maximum(log, floor) + 4.0) / 4.0
        scaled = torch.nn.functional.pad(scaled, (0, 1))  # the frame that stands for what is missing
        index = wanted.to(self.device, non_blocking=True)[:, None, :].expand(-1, self.bands, -1)
        return scaled.gather(2, index)


class Loudest:
    """The largest log-mel value of a stream of samples with silence after its end."""

    def __init__(self, mel: LogMel, *, mirrored: bool = True) -> None:
        """Measure in `mel`'s bands. mirrored: the stream is a file's beginning; else silence lies before it."""
        self._mel = mel
        self._rest: NDArray[np.float32] | None = None if mirrored else np.zeros(REACH, np.float32)
        self._power = _SILENCE

    def add(self, block: Samples) -> None:
        """The next samples of the stream."""
        samples = to_float(block)
        if self._rest is None:  # the beginning is mirrored, as Whisper has it
            samples = np.concatenate([mirror(samples), samples])
        else:
            samples = np.concatenate([self._rest, samples])
        if len(samples) < N_FFT:
            self._rest = samples
            return
        self._measure(samples)
        frames = (len(samples) - N_FFT) // HOP + 1
        self._rest = samples[frames * HOP :]

    def value(self) -> float:
        """The largest value up to here, as if the stream ended here."""
        if self._rest is not None:
            self._measure(np.concatenate([self._rest, np.zeros(2 * N_FFT, np.float32)]))
        return math.log10(self._power) if self._power > _SILENCE else math.log10(_SILENCE)

    def _measure(self, samples: NDArray[np.float32]) -> None:
        self._power = max(self._power, float(self._mel.power(torch.from_numpy(samples)).max()))


def to_float(samples: Samples) -> NDArray[np.float32]:
    """16-bit samples as floats from -1 to 1."""
    return samples.astype(np.float32) / np.float32(32768.0)


_Numbers = TypeVar("_Numbers", np.float32, np.int16)


def mirror(samples: NDArray[_Numbers]) -> NDArray[_Numbers]:
    """The REACH samples before the first, as its mirror image (with silence where the recording is too short)."""
    image = np.zeros(REACH, samples.dtype)
    found = samples[1 : REACH + 1][::-1]
    image[REACH - len(found) :] = found
    return image


def mel_filters(bands: int) -> NDArray[np.float32]:
    """Slaney's mel filters over the bins of the transform, each of area one: (bands, 201)."""
    points = _to_hertz(np.linspace(0.0, _to_mel(SAMPLE_RATE / 2), bands + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    slopes = points[:, None] - bins[None, :]
    widths = np.diff(points)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (points[2:] - points[:-2]))[:, None]
    return filters.astype(np.float32)


# Slaney's scale: linear up to 1 kHz (15 mel), logarithmic above.
_LINEAR: Final = 200.0 / 3
_LOG_STEP: Final = math.log(6.4) / 27.0


def _to_mel(hertz: float) -> float:
    return hertz / _LINEAR if hertz < 1000 else 15.0 + math.log(hertz / 1000.0) / _LOG_STEP


def _to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15.0, mel * _LINEAR, 1000.0 * np.exp(_LOG_STEP * (mel - 15.0)))
