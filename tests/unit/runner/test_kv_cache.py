"""Rows that go on from what other rows were."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from transcription_runner.kv_cache import Cache
from transcription_runner.modules import WhisperConfig

CONFIG = WhisperConfig(
    vocab_size=20, d_model=8, decoder_layers=2, decoder_attention_heads=2, max_source_positions=4,
    max_target_positions=100,
)  # fmt: skip


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 64))
def test_every_row_is_what_its_source_was(sources, longest):
    cache = Cache(CONFIG, windows=2, group=3, dtype=torch.float32, device=torch.device("cpu"))
    for held in (cache.keys, cache.values):
        held.copy_(torch.randn(held.shape, generator=torch.Generator().manual_seed(0)))
    before = [held.clone() for held in (cache.keys, cache.values)]
    cache.reorder(torch.tensor(sources), longest)
    for was, held in zip(before, (cache.keys, cache.values), strict=True):
        wanted = was.clone()
        wanted[:, : len(sources), :, :longest] = was[:, sources, :, :longest]
        assert torch.equal(held, wanted)
