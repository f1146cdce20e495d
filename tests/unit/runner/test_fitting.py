"""How many windows are decoded at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transcription_runner.decoding import Method, batch_of
from transcription_runner.fitting import CPU_BATCH, MOST, fitting_batch, largest_batch, window_bytes

LARGE = SimpleNamespace(
    config=SimpleNamespace(
        decoder_layers=32, d_model=1280, max_target_positions=448, max_source_positions=1500, vocab_size=51866
    ),
    dtype=torch.float16,
)


def method(group=1):
    return Method(group, group > 1, 1.0, None, ())


def test_what_a_window_of_large_v3_takes():
    cross = 245.76e6  # both halves of the cross-attention's cache, in 16 bits
    assert window_bytes(LARGE, method()) == pytest.approx(cross + 73.4e6, rel=0.03)
    assert window_bytes(LARGE, method(5)) == pytest.approx(cross + 5 * 74.6e6, rel=0.03)


def test_a_processor_takes_a_few(random_engine):
    assert fitting_batch(random_engine.network, method()) == 2 * CPU_BATCH
    large = SimpleNamespace(config=LARGE.config, dtype=torch.float32, device=torch.device("cpu"))
    assert fitting_batch(large, method()) == CPU_BATCH


@given(st.integers(0, 200 * 10**9), st.integers(10**6, 10**9))
def test_a_batch_fits_and_is_one_of_those_there_are_graphs_for(free, window):
    size = largest_batch(free, window)
    assert 1 <= size <= MOST
    assert batch_of(size) == size
    assert size == 1 or size * window <= free


@given(st.integers(1, MOST))
def test_sizes_of_batches(windows):
    size = batch_of(windows)
    assert windows <= size <= max(2, 1.5 * windows + 3)
    assert batch_of(size) == size
