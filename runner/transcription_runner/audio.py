"""Any container's sound as a stream of 16 kHz mono samples, through PyAV.

Memory does not grow with the length of a file: it is decoded a block at a time, and a stretch in the middle is found
by seeking. Samples are 16-bit integers, as openai-whisper has ffmpeg make them; divide by 32768 for floats.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import av.error
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from transcription_runner import errors, profile

SAMPLE_RATE: Final = 16_000
BLOCK: Final = 30 * SAMPLE_RATE
"""Samples in a block, the last one excepted."""

# A seek lands here before the wanted place: codecs and the resampler need a run-up before they are exact.
_RUN_UP = 1.0

Samples: TypeAlias = NDArray[np.int16]

# PyAV's own annotations leave open what a stream of each kind has.
_Container: TypeAlias = Any
_Stream: TypeAlias = Any
_Frame: TypeAlias = Any
_Open: TypeAlias = tuple[contextlib.ExitStack, _Container, _Stream]
"""A file that is open, and what closes it."""

# Formats that ffmpeg sees in any bytes at all, as pictures made of characters.
_TEXT_ART: Final = frozenset({"bin", "tty", "xbin", "idf", "adf"})

_log = logging.getLogger(__name__)


class AudioFile:
    """A local file with sound in it. It is open from the start and after a stretch was read in its middle, until
    `close` or until its beginning is read: opening costs more than decoding some seconds."""

    def __init__(self, path: Path) -> None:
        """Look at the file's header. Raises errors.BadAudio, SourceMissing, PermissionDenied."""
        self.path = path
        self._kept: _Open | None = None
        self._untouched: _Open | None = None
        _check_file(path)
        with profile.stage(profile.DECODE):
            self._untouched = self._opened()
        self.duration = _duration(*self._untouched[1:])

    duration: float | None
    """Seconds as the container states them, an estimate; None if it does not say."""

    def blocks(self, start: float = 0.0, end: float | None = None) -> Iterator[tuple[int, Samples]]:
        """Blocks of samples between two times in seconds, each with the index in the file of its first sample.

        The blocks follow one another without gap or overlap and hold BLOCK samples, the last one fewer. Decoding
        errors inside the file are stepped over; raises errors.BadAudio if there is not one sample to be had.
        """
        return profile.each(profile.DECODE, self._blocks(start, end))

    def _blocks(self, start: float, end: float | None) -> Iterator[tuple[int, Samples]]:
        first = round(start * SAMPLE_RATE)
        last = None if end is None else round(end * SAMPLE_RATE)
        position = first
        pending: list[Samples] = []
        size = 0
        for piece in self._clipped(first, last):
            pending.append(piece)
            size += len(piece)
            while size >= BLOCK:
                joined = np.concatenate(pending)
                yield position, joined[:BLOCK]
                position += BLOCK
                pending, size = [joined[BLOCK:]], size - BLOCK
        if size:
            yield position, np.concatenate(pending)

    def close(self) -> None:
        """Let go of the file; reading on opens it anew."""
        for found in (self._kept, self._untouched):
            if found is not None:
                found[0].close()
        self._kept = self._untouched = None

    def _clipped(self, first: int, last: int | None) -> Iterator[Samples]:
        for index, samples in self._samples(first / SAMPLE_RATE):
            piece = samples[max(0, first - index) :]
            if last is not None:
                piece = piece[: max(0, last - max(index, first))]
            if len(piece):
                yield piece
            if last is not None and index + len(samples) >= last:
                return

    def _samples(self, start: float) -> Iterator[tuple[int, Samples]]:
        """Pieces of samples from `start` seconds or earlier on, each with its index in the file."""
        first = round(start * SAMPLE_RATE)
        if start > 2 * _RUN_UP:
            with self._seekable() as (container, stream):
                for by in _clocks(container, stream):
                    if not _seek(container, by, start - _RUN_UP):
                        continue
                    frames = _frames(container, stream)
                    frame = next(frames, None)
                    if frame is None:  # beyond the end
                        return
                    position = self._position(frame)
                    if position is not None and position <= first:
                        yield from _resampled(itertools.chain([frame], frames), position)
                        return
        with self._beginning() as (container, stream):
            decoded = False
            for piece in _resampled(_frames(container, stream), 0):
                decoded = True
                yield piece
            if not decoded:
                raise errors.BadAudio(
                    f"{self.path.name}: not one sample of its sound could be decoded",
                    hint="The file is damaged, or cut off right after its header.",
                )

    def _position(self, frame: _Frame) -> int | None:
        """Which sample of the whole file a frame begins with, after a seek; None where the container has no times."""
        if frame.time is None or self._first_time is None:
            return None
        return max(0, round((float(frame.time) - self._first_time) * SAMPLE_RATE))

    @functools.cached_property
    def _first_time(self) -> float | None:
        """When the first frame that can be decoded begins: some decoders swallow what the container counts from."""
        with self._open() as (container, stream):
            first = next(_frames(container, stream), None)
            return None if first is None or first.time is None else float(first.time)

    @contextlib.contextmanager
    def _beginning(self) -> Iterator[tuple[_Container, _Stream]]:
        """The file as nothing was read of it."""
        stack, *found = self._untouched or self._opened()
        self._untouched = None
        with stack:
            yield found[0], found[1]

    @contextlib.contextmanager
    def _seekable(self) -> Iterator[tuple[_Container, _Stream]]:
        """The file, to seek in. It is kept for the next stretch: where a format has no index (mp3, bare aac), ffmpeg
        counts the packets up to each place, and goes on from what it has counted as long as the file is open."""
        found, self._kept = self._kept, None  # one reader at a time: another one opens the file for itself
        if found is None:
            found, self._untouched = self._untouched or self._opened(), None
        try:
            yield found[1:]
        finally:
            self.close()
            self._kept = found

    def _opened(self) -> _Open:
        stack = contextlib.ExitStack()
        return stack, *stack.enter_context(self._open())

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[_Container, _Stream]]:
        try:
            # An absolute path is never taken for a protocol, and a playlist may not lead to the network.
            container = av.open(
                str(self.path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"}
            )
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise _unreadable(self.path, error) from error
        with container:
            if container.format.name in _TEXT_ART:
                raise _unreadable(self.path, ValueError(container.format.name))
            stream: _Stream = container.streams.best("audio")
            if stream is None:
                kinds = sorted({each.type for each in container.streams})
                raise errors.BadAudio(
                    f"{self.path.name}: there is no sound in it (only {', '.join(kinds) or 'an empty container'})",
                    hint="Give a file with at least one audio stream.",
                )
            if stream.codec_context is None:
                raise errors.BadAudio(f"{self.path.name}: its sound is in a format that cannot be decoded")
            stream.thread_type = "AUTO"
            yield container, stream


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise errors.SourceMissing(f"{path}: no such file") from None
    except IsADirectoryError:
        raise errors.BadAudio(f"{path}: a folder, not a file") from None
    except PermissionError:
        raise errors.PermissionDenied(f"{path}: this user may not read it") from None
    if empty:
        raise errors.BadAudio(f"{path.name}: the file is empty (0 bytes)", hint="Was its upload finished?")


def _unreadable(path: Path, error: Exception) -> errors.RunnerError:
    if isinstance(error, PermissionError):
        return errors.PermissionDenied(f"{path}: this user may not read it")
    if isinstance(error, FileNotFoundError):
        return errors.SourceMissing(f"{path}: no such file")
    return errors.BadAudio(
        f"{path.name}: neither audio nor video that can be decoded",
        hint="Check that the file is complete, and that it is what its name says.",
    )


def _duration(container: _Container, stream: _Stream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1_000_000
    else:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _clocks(container: _Container, stream: _Stream) -> list[_Stream]:
    """The streams to seek by: the picture, since Matroska often has no other index, and then the sound itself."""
    films = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    return [each for each in (*films[:1], stream) if each.time_base is not None]


def _seek(container: _Container, by: _Stream, seconds: float) -> bool:
    """Go to `seconds` or somewhat before; False where the container cannot."""
    try:
        container.seek(int(seconds / by.time_base) + (by.start_time or 0), stream=by)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def _frames(container: _Container, stream: _Stream) -> Iterator[_Frame]:
    """Decoded frames, stepping over packets that cannot be decoded and stopping where the file breaks off."""
    bad = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            _log.warning("the file breaks off: %s; what came before is used", error)
            break
        try:
            yield from packet.decode()
        except av.error.EOFError:
            break
        except (av.error.FFmpegError, OSError):
            bad += 1
    if bad:
        _log.warning("%d packets could not be decoded and were left out", bad)


def _resampled(frames: Iterator[_Frame], position: int) -> Iterator[tuple[int, Samples]]:
    """Frames as samples, each piece with its index, the first of which is `position`."""
    resampler = _Resampler()
    for frame in frames:
        for piece in resampler.resample(frame):
            yield position, piece
            position += len(piece)
    for piece in resampler.flush():
        yield position, piece
        position += len(piece)


class _Resampler:
    """To 16 kHz mono 16-bit, whatever a frame has; a stream may change its format on the way.

    Frames are gathered first, a second of them: a frame of some formats has 20 ms, and the steps that Python does for
    each would hold up other threads.
    """

    def __init__(self) -> None:
        self._format: tuple[Any, ...] | None = None
        self._resampler: Any = None
        self._gathered: Any = None
        self._clock = Fraction(1, SAMPLE_RATE)

    def resample(self, frame: _Frame) -> Iterator[Samples]:
        if frame.samples == 0:
            return
        form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if form != self._format:
            yield from self.flush()
            self._format = form
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._gathered = av.AudioFifo()
            self._clock = Fraction(1, frame.sample_rate)
        frame.pts = None  # gaps in a file's clock are not sound
        frame.time_base = self._clock  # nor is another clock from here on
        self._gathered.write(frame)
        if self._gathered.samples >= frame.sample_rate:
            yield from self._run(_clean(self._gathered.read()))

    def flush(self) -> Iterator[Samples]:
        if self._resampler is not None:
            if self._gathered.samples:
                yield from self._run(_clean(self._gathered.read()))
            yield from self._run(None)
            self._resampler = None
            self._format = None

    def _run(self, frame: _Frame) -> Iterator[Samples]:
        for out in self._resampler.resample(frame):
            yield out.to_ndarray().reshape(-1)


def _clean(frame: _Frame) -> _Frame:
    """Silence in place of samples that are no numbers: only formats of floating point have them."""
    if not frame.format.name.startswith(("flt", "dbl")):
        return frame
    samples = frame.to_ndarray()
    if np.isfinite(samples).all():
        return frame
    clean = av.AudioFrame.from_ndarray(
        np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), format=frame.format.name, layout=frame.layout.name
    )
    clean.sample_rate = frame.sample_rate
    return clean
