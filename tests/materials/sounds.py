"""Sounds that are not one clear voice, made block by block: noise, babble, music; and a change of speed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np

from tests.materials import speech
from tests.materials.speech import RATE, Samples

Kind = Literal["white", "babble", "music", "tone"]

_BLOCK = RATE


def level(decibels: float) -> float:
    """Return the factor for a level below full scale."""
    return float(10 ** (decibels / 20))


def endless(kind: Kind, decibels: float, seed: int) -> Iterator[Samples]:
    """Yield a sound in blocks, for ever, with this mean level (full scale is 0)."""
    if kind == "white":
        blocks = _white(seed)
    elif kind == "babble":
        blocks = _babble(seed)
    elif kind == "music":
        blocks = _music()
    else:
        blocks = _tone()
    factor = level(decibels)
    return (block * np.float32(factor) for block in blocks)


def cut(blocks: Iterator[Samples], samples: int) -> Iterator[Samples]:
    """Yield the beginning of an endless sound."""
    while samples > 0:
        block = next(blocks)[:samples]
        samples -= len(block)
        yield block


def _white(seed: int) -> Iterator[Samples]:
    random = np.random.default_rng(seed)
    while True:
        yield random.standard_normal(_BLOCK, dtype=np.float32)


def _babble(seed: int, voices: int = 8) -> Iterator[Samples]:
    """Let eight people talk at once, in three languages: sounds like speech, and no word can be made out."""
    random = np.random.default_rng(seed)
    every = [clip for group in ("en", "es", "fr") for clip in speech.clips(group).values() if clip.seconds > 2]

    def voice() -> Iterator[Samples]:
        rest: Samples = np.zeros(0, dtype=np.float32)
        while True:
            while len(rest) < _BLOCK:
                rest = np.concatenate([rest, every[random.integers(len(every))].samples()])
            yield rest[:_BLOCK]
            rest = rest[_BLOCK:]

    for blocks in zip(*(voice() for _ in range(voices)), strict=True):
        mixed: Samples = np.stack(blocks).sum(axis=0, dtype=np.float32)
        yield mixed / np.float32(max(float(np.sqrt(np.mean(mixed**2))), 1e-3))


def _music() -> Iterator[Samples]:
    """Play chords of plucked strings, one a second, with a beat on top."""
    time = np.arange(_BLOCK) / RATE
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9))
    for chord in itertools.cycle(chords):
        sound = np.zeros(_BLOCK)
        for index, pitch in enumerate(chord):
            struck = np.clip(time - 0.08 * index, 0, None)
            for overtone in range(1, 6):
                fade = np.exp(-struck * (1.5 + overtone))
                sound += np.sin(2 * np.pi * pitch * overtone * struck) * fade / overtone
        for beat in (0.0, 0.5):
            struck = np.clip(time - beat, 0, None)
            sound += 2 * np.sin(2 * np.pi * 70 * struck) * np.exp(-struck * 30)
        yield (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def _tone() -> Iterator[Samples]:
    """Hold one pitch, 440 Hz."""
    block = np.sin(2 * np.pi * 440 * np.arange(_BLOCK) / RATE) * np.sqrt(2)  # whole periods a block
    while True:
        yield block.astype(np.float32)


def at_speed(samples: Samples, speed: float) -> Samples:
    """Say it faster or slower (0.5 to 2) at the same pitch."""
    if speed == 1:
        return samples
    from av import AudioFrame
    from av.error import BlockingIOError as NothingYet
    from av.error import EOFError as Ended
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono", time_base=None)
    tempo = graph.add("atempo", str(speed))
    sink = graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = RATE
    graph.push(frame)
    graph.push(None)
    parts = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray().reshape(-1))
        except (Ended, NothingYet):
            break
    return np.concatenate(parts).astype(np.float32)
