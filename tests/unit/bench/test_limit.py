"""The floor under every time, on models whose figures are known."""

from __future__ import annotations

import pytest

from bench import limit
from bench.limit import SIZES, Machine


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tiny", 30e9, 40e9), ("base", 85e9, 92e9), ("large-v3", 2.0e12, 2.4e12), ("large-v3-turbo", 2.0e12, 2.4e12)],
)
def test_an_encoder_pass(name: str, least: float, most: float) -> None:
    assert least < limit.encoder_flops(SIZES[name]) < most


def test_the_encoder_by_hand() -> None:
    sizes = limit.Sizes(d_model=2, encoder_layers=3, decoder_layers=1, heads=1, num_mel_bins=5, vocab_size=7, frames=8)
    convolutions = 2 * 8 * 5 * 2 * 3 + 2 * 4 * 2 * 2 * 3
    layer = 4 * (2 * 4 * 2 * 2) + 2 * (2 * 4 * 4 * 2) + 2 * (2 * 4 * 2 * 8)
    assert limit.encoder_flops(sizes) == convolutions + 3 * layer


def test_the_decoder_by_hand() -> None:
    sizes = limit.Sizes(d_model=2, encoder_layers=3, decoder_layers=5, heads=1, num_mel_bins=5, vocab_size=7, frames=8)
    own = 4 * (2 * 2 * 2) + 2 * (2 * 10 * 2)  # nine tokens before it, and itself
    cross = 2 * (2 * 2 * 2) + 2 * (2 * 4 * 2)
    feed = 2 * (2 * 2 * 8)
    assert limit.decoder_flops(sizes, 9) == 5 * (own + cross + feed) + 2 * 2 * 7


def test_a_window_is_its_encoder_its_keys_and_its_tokens() -> None:
    sizes = SIZES["base"]
    before = limit.encoder_flops(sizes) + limit.cross_flops(sizes)
    assert limit.window_flops(sizes, 0) == before
    assert limit.window_flops(sizes, 2) == before + limit.decoder_flops(sizes, 0) + limit.decoder_flops(sizes, 1)


@pytest.mark.parametrize(("name", "parameters"), [("tiny", 37.8e6), ("base", 72.6e6), ("large-v3", 1543.5e6)])
def test_weights_count_as_the_model_does(name: str, parameters: float) -> None:
    """All matrices there are, from the FLOPs and bytes: what is missing are biases, norms and places."""
    sizes = SIZES[name]
    d = sizes.d_model
    encoder = 3 * d * (sizes.num_mel_bins + d) + sizes.encoder_layers * (4 * d * d + 2 * d * sizes.ffn_dim)
    cross = sizes.decoder_layers * 2 * d * d
    assert encoder + cross + limit.weight_bytes(sizes, 1) == pytest.approx(parameters, rel=0.03)


def test_a_step_reads_245_mb_of_cross_attention_a_window() -> None:
    assert limit.cross_bytes(SIZES["large-v3"]) == 245_760_000
    assert limit.cross_bytes(SIZES["large-v3"], width=4) == 2 * 245_760_000
    assert limit.cross_bytes(SIZES["large-v3-turbo"]) == 245_760_000 // 8


def test_self_attention_reads_what_was_written() -> None:
    assert limit.self_bytes(SIZES["base"], 0) == 0
    assert limit.self_bytes(SIZES["base"], 10) == 6 * 2 * 10 * 512 * 2


def test_a_batch_reads_the_weights_once_a_step() -> None:
    sizes = SIZES["large-v3"]
    one, two = (limit.batch_bytes(sizes, size, 50) for size in (1, 2))
    assert 2 * one - two == 50 * limit.weight_bytes(sizes)


def test_a_slow_memory_is_waited_for_and_a_slow_processor_too() -> None:
    sizes = SIZES["large-v3"]
    reading = limit.floor(sizes, Machine(flops=1e30, bandwidth=1e12), 4, 10)
    assert reading.apart == pytest.approx(limit.batch_bytes(sizes, 4, 10) / 1e12)
    assert reading.together == pytest.approx(reading.apart)
    computing = limit.floor(sizes, Machine(flops=1e12, bandwidth=1e30), 4, 10)
    assert computing.apart == pytest.approx(4 * limit.window_flops(sizes, 10) / 1e12)
    assert computing.together == pytest.approx(computing.apart)


def test_an_h200_can_go_3000_times_real_time() -> None:
    """Its 4.8 TB/s and 990 TFLOP/s, large-v3, 100 tokens a window."""
    least = limit.floor(SIZES["large-v3"], Machine(990e12, 4.8e12), 64, 100)
    assert 2500 < 64 * limit.WINDOW / least.apart < 4000
    assert least.together < least.apart


def test_two_cores_can_go_30_times_real_time() -> None:
    """100 GFLOP/s, base, sound without silence; a person says some 100 tokens in half a minute."""
    assert 25 < 3600 / limit.seconds(SIZES["base"], 3600, 12_000, 100e9) < 35


def test_silence_costs_nothing() -> None:
    assert limit.seconds(SIZES["base"], 0, 0, 100e9) == 0
