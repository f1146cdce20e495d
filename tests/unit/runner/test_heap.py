"""What is free between pieces in use goes back to the system."""

from __future__ import annotations

from pathlib import Path

from transcription_runner.heap import Heap

PIECE = 64 * 1024  # small enough to be of the heap, and not a mapping of its own


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def gaps() -> list[bytearray]:
    """A heap of 200 MB of which every sixteenth piece is in use."""
    pieces = [bytearray(PIECE) for _ in range(3200)]
    return pieces[::16]


def test_gaps_between_pieces_in_use_are_given_back() -> None:
    heap = Heap(every=0.0)
    kept = gaps()
    before = resident()
    heap.tidy()
    assert before - resident() > 100_000_000
    assert all(len(piece) == PIECE for piece in kept)


def test_it_is_not_done_before_its_time() -> None:
    heap = Heap(every=3600.0)
    kept = gaps()
    before = resident()
    heap.tidy()
    assert before - resident() < 50_000_000
    assert kept
