"""One file's sound as the machines want it: measured once, then read window by window.

`Recording.scan` goes through the file (or its clips alone) once: it finds the length, the loudest moment, and on the
way feeds listeners such as the VAD. Sound of some length is kept from that pass, as far as all open files together have
room for it; anything longer is decoded a second time, a little ahead of the windows that ask for it and
always forward, so that memory stays flat. Only the processor is used: another thread may have the GPU.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from transcription_runner import profile
from transcription_runner.ahead import Ahead
from transcription_runner.audio import SAMPLE_RATE, AudioFile, Samples
from transcription_runner.mel import HOP, REACH, LogMel, Loudest, Sound, mirror
from transcription_runner.threads import one_thread
from transcription_runner.windows import Cut

KEPT_SECONDS: Final = 30 * 60
"""Sound of one file up to this long is kept in memory for an engine on processors: 58 MB, twice that in all."""
KEPT_SECONDS_FOR_GPU: Final = 2 * 60 * 60
"""The same for a GPU, which would wait for a second reading of what it deals with in moments: 230 MB, 920 MB in all."""

# Blocks of 30 s that are read ahead of who hears them, or of the windows that ask for them.
_BLOCKS_AHEAD: Final = 2

# Seconds of sound from which a thread more is worth it.
_LONG: Final = 120.0

# A clip is read from a little before its beginning to a little after its end: frames look that far.
_MARGIN: Final = 0.05


class Listener(Protocol):
    """Hears every sample of a scan once, in order."""

    def add(self, start: int, samples: Samples) -> None:
        """Samples, the first of which has index `start` in the file."""


class Room:
    """Memory for the sound of the files that are open at once, in samples. Any thread may use it."""

    def __init__(self, seconds: float, each: float = KEPT_SECONDS) -> None:
        """Room for so much sound in all, and so much of one file."""
        self.each = round(each * SAMPLE_RATE)
        self._free = round(seconds * SAMPLE_RATE)
        self._lock = threading.Lock()

    def take(self, samples: int) -> bool:
        """Take room, if there is enough."""
        with self._lock:
            if samples > self._free:
                return False
            self._free -= samples
            return True

    def give_back(self, samples: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._free += samples


def room_for(device: str, batch_size: int) -> Room:
    """For an engine on `cuda` or `cpu` that decodes so many windows at once: they and the next ones find room."""
    gpu = device == "cuda"
    each = KEPT_SECONDS_FOR_GPU if gpu else KEPT_SECONDS
    return Room(max((4 if gpu else 2) * each, 2 * 30 * batch_size), each)


class Recording:
    """A file and what is known of its sound."""

    def __init__(self, file: AudioFile, mel: LogMel, room: Room | None = None) -> None:
        """Wrap a file; `scan` comes first, `close` last. room: shared with the other files that are open."""
        self._file = file
        self._mel = mel
        self._room = room or Room(KEPT_SECONDS)
        self._taken = 0
        self._held = 0
        self._loudest = 0.0
        self._kept: list[tuple[int, Samples]] | None = []
        self._reader: Ahead[tuple[int, Samples], None] | None = None
        self._buffer: tuple[int, Samples] = (0, np.zeros(0, np.int16))
        self.samples = 0
        """Samples from the beginning of the file to its end, or to the end of the last clip."""

    @property
    def frames(self) -> int:
        """Whole frames of 10 ms."""
        return self.samples // HOP

    @property
    def is_kept(self) -> bool:
        """Whether all the sound that was heard is in memory."""
        return self._kept is not None

    def reserve(self, clips: Sequence[tuple[float, float | None]]) -> bool:
        """Take the room that these clips will need, if there is enough; nothing where too long a file needs none."""
        samples = round(self._seconds(clips) * SAMPLE_RATE)
        if self._taken or samples > self._room.each:
            return True
        if not self._room.take(samples):
            return False
        self._taken = samples
        return True

    def is_long(self, clips: Sequence[tuple[float, float | None]]) -> bool:
        """Whether more threads than one are worth it to hear these clips."""
        return self._seconds(clips) >= _LONG

    def scan(self, clips: Sequence[tuple[float, float | None]], listeners: Sequence[Listener] = ()) -> None:
        """Hear the clips (in seconds, in order) once. Raises errors.BadAudio."""
        loudest = -math.inf
        for start, end in clips:
            first = max(0.0, start - _MARGIN)
            measure = Loudest(_processors_mel(self._mel.bands), mirrored=first == 0)
            stop = None if end is None else end + _MARGIN
            # Closed here and not by chance: its threads read the file, which whoever hears of an error will close.
            heard = _measured(self._file.blocks(first, stop), measure, ahead=self.is_long([(start, end)]))
            with contextlib.closing(heard):
                for index, block in heard:
                    with profile.stage(profile.VAD):
                        for listener in listeners:
                            listener.add(index, block)
                    self.samples = max(self.samples, index + len(block))
                    self._keep(index, block)
            with profile.stage(profile.LOUDNESS):
                loudest = max(loudest, measure.value())
        self._loudest = loudest
        self._room.give_back(self._taken - self._held)  # it was shorter than it said
        self._taken = self._held
        if self._kept is not None:
            self._kept = _join(self._kept)

    def close(self) -> None:
        """Forget the sound, whose room is another file's, and let go of the file."""
        self._file.close()
        self._kept = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._buffer = (0, np.zeros(0, np.int16))
        self._room.give_back(self._taken)
        self._taken = self._held = 0

    def _seconds(self, clips: Sequence[tuple[float, float | None]]) -> float:
        """How long the clips are, as far as the file says how long it is."""
        length = self._file.duration or 0.0
        return sum(max(0.0, min(length, math.inf if end is None else end) - start) for start, end in clips)

    def _keep(self, index: int, block: Samples) -> None:
        """Keep a block for later, or none at all where they get too many."""
        if self._kept is None:
            return
        held = self._held + len(block)
        if held <= self._room.each and (held <= self._taken or self._room.take(held - self._taken)):
            self._held, self._taken = held, max(held, self._taken)
            self._kept.append((index, block))
        else:
            self.close()

    def sound(self, cut: Cut) -> Sound:
        """The sound of a cut, for LogMel.windows."""
        return Sound(tuple(self._samples_of(start, end) for start, end in cut.pieces if start < end), self._loudest)

    def _samples_of(self, start: int, end: int) -> Samples:
        first = start * HOP - REACH
        samples = self._read(max(0, first), end * HOP + REACH)
        if first < 0:
            samples = np.concatenate([mirror(samples)[first:], samples])
        return _fit(samples, (end - start - 1) * HOP + 2 * REACH)

    def _read(self, start: int, end: int) -> Samples:
        """Samples from index `start` to `end`, silence where the file has none."""
        if self._kept is not None:
            return _gather(self._kept, start, end)
        if self._reader is None or start < self._buffer[0]:
            self._open(start)
        while self._buffer[0] + len(self._buffer[1]) < end and self._fill(start):
            pass
        return _gather([self._buffer], start, end)

    def _open(self, start: int) -> None:
        if self._reader is not None:
            self._reader.close()
        blocks = self._file.blocks(start / SAMPLE_RATE)
        self._reader = Ahead(blocks, lambda *_: None, most=_BLOCKS_AHEAD)
        self._buffer = (start, np.zeros(0, np.int16))

    def _fill(self, start: int) -> bool:
        """Read one more block, and forget what lies before `start`."""
        block, _ = next(self._reader, (None, None)) if self._reader else (None, None)
        if block is None:
            return False
        index, samples = self._buffer
        if not len(samples):
            index = block[0]
        samples = np.concatenate([samples, block[1]])
        forget = min(max(0, start - index), len(samples))
        self._buffer = (index + forget, samples[forget:])
        return True


def _measured(
    blocks: Iterator[tuple[int, Samples]], measure: Loudest, *, ahead: bool
) -> Generator[tuple[int, Samples]]:
    """Each block when its loudness is known. ahead: a thread decodes them, and one more measures."""

    def add(block: tuple[int, Samples]) -> None:
        with profile.stage(profile.LOUDNESS):
            measure.add(block[1])

    if not ahead:
        for block in blocks:
            add(block)
            yield block
        return
    with contextlib.ExitStack() as stack:
        decoded = Ahead(blocks, lambda *_: None, most=_BLOCKS_AHEAD)
        stack.callback(decoded.close, patience=None)
        measured = Ahead(
            (block for block, _ in decoded), lambda block, _: add(block), most=_BLOCKS_AHEAD, begin=one_thread
        )
        stack.callback(measured.close, patience=None)
        for block, _ in measured:
            yield block


@functools.cache
def _processors_mel(bands: int) -> LogMel:
    return LogMel(bands)


def _join(blocks: list[tuple[int, Samples]]) -> list[tuple[int, Samples]]:
    """Blocks that follow one another as one."""
    joined: list[tuple[int, list[Samples]]] = []
    following = -1
    for index, block in blocks:
        if index != following:
            joined.append((index, []))
        joined[-1][1].append(block)
        following = index + len(block)
    return [(index, np.concatenate(parts)) for index, parts in joined]


def _gather(blocks: Sequence[tuple[int, Samples]], start: int, end: int) -> Samples:
    out = np.zeros(max(0, end - start), np.int16)
    for index, block in blocks:
        first, last = max(start, index), min(end, index + len(block))
        if first < last:
            out[first - start : last - start] = block[first - index : last - index]
    return out


def _fit(samples: Samples, length: int) -> Samples:
    return samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))
