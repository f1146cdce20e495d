"""How fast Whisper could be at most: what has to be computed and read, by the model's sizes.

A multiplication and its addition are two FLOPs. What is small beside the matrix products (norms, softmax, GELU, the
spectrogram) is left out, so that every figure is a floor. "Bytes" are those that a step of the decoder has to read: on
a GPU they, and not the FLOPs, are what a step takes.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of sound in a window.
WINDOW = 30.0


@dataclass(frozen=True)
class Sizes:
    """A Whisper's architecture, by the names of its config. `d_model` over `heads` is 64 in all of them."""

    d_model: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    num_mel_bins: int = 80
    vocab_size: int = 51865
    max_target_positions: int = 448
    frames: int = 3000
    """Of the spectrogram in a window; the encoder works on half as many."""

    @property
    def ffn_dim(self) -> int:
        return 4 * self.d_model

    @property
    def places(self) -> int:
        """The encoder's outputs for a window."""
        return self.frames // 2


#: OpenAI's models.
SIZES = {
    "tiny": Sizes(384, 4, 4, 6),
    "tiny.en": Sizes(384, 4, 4, 6, vocab_size=51864),
    "base": Sizes(512, 6, 6, 8),
    "base.en": Sizes(512, 6, 6, 8, vocab_size=51864),
    "small": Sizes(768, 12, 12, 12),
    "medium": Sizes(1024, 24, 24, 16),
    "large-v2": Sizes(1280, 32, 32, 20),
    "large-v3": Sizes(1280, 32, 32, 20, num_mel_bins=128, vocab_size=51866),
    "large-v3-turbo": Sizes(1280, 32, 4, 20, num_mel_bins=128, vocab_size=51866),
}


def encoder_flops(sizes: Sizes) -> int:
    """For one window of 30 s: two convolutions of width 3, then the layers."""
    d, places = sizes.d_model, sizes.places
    convolutions = 2 * sizes.frames * sizes.num_mel_bins * d * 3 + 2 * places * d * d * 3
    projections = 4 * 2 * places * d * d
    scores_and_sums = 2 * 2 * places * places * d
    feed = 2 * 2 * places * d * sizes.ffn_dim
    return convolutions + sizes.encoder_layers * (projections + scores_and_sums + feed)


def cross_flops(sizes: Sizes) -> int:
    """For one window: the keys and values of all the decoder's layers, once."""
    return sizes.decoder_layers * 2 * 2 * sizes.places * sizes.d_model**2


def decoder_flops(sizes: Sizes, before: int = 0) -> int:
    """For one token that has `before` tokens before it in its row: the layers, and the vocabulary."""
    d = sizes.d_model
    own = 4 * 2 * d * d + 2 * 2 * (before + 1) * d
    cross = 2 * 2 * d * d + 2 * 2 * sizes.places * d
    feed = 2 * 2 * d * sizes.ffn_dim
    return sizes.decoder_layers * (own + cross + feed) + 2 * d * sizes.vocab_size


def window_flops(sizes: Sizes, tokens: int) -> int:
    """For one window and `tokens` tokens of it, decoded greedily."""
    decoded = sum(decoder_flops(sizes, before) for before in range(tokens))
    return encoder_flops(sizes) + cross_flops(sizes) + decoded


def weight_bytes(sizes: Sizes, width: int = 2) -> int:
    """That a step reads of the decoder's weights, once for the whole batch; `width` bytes a weight.

    The projections of the encoder's output to keys and values are not among them: they are used once a window.
    """
    d = sizes.d_model
    layer = 4 * d * d + 2 * d * d + 2 * d * sizes.ffn_dim
    return width * (sizes.decoder_layers * layer + d * sizes.vocab_size)


def cross_bytes(sizes: Sizes, width: int = 2) -> int:
    """That a step reads of the cross-attention cache, for every row."""
    return width * sizes.decoder_layers * 2 * sizes.places * sizes.d_model


def self_bytes(sizes: Sizes, before: int, width: int = 2) -> int:
    """That a step reads of the self-attention cache, for a row of `before` tokens."""
    return width * sizes.decoder_layers * 2 * before * sizes.d_model


def batch_bytes(sizes: Sizes, batch_size: int, tokens: int, width: int = 2) -> int:
    """That all the steps of a batch read, `tokens` of them."""
    own = sum(self_bytes(sizes, before, width) for before in range(tokens))
    return tokens * (weight_bytes(sizes, width) + batch_size * cross_bytes(sizes, width)) + batch_size * own


@dataclass(frozen=True)
class Machine:
    """What was measured of a device: FLOPs in a second, and bytes in a second that it can read."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Floor:
    """The least seconds that a batch takes.

    apart: the encoder, and then every step waits for its bytes or its FLOPs, whichever are more. together: where
    computing (another batch's encoder) hides behind reading, or reading behind computing.
    """

    apart: float
    together: float


def floor(sizes: Sizes, machine: Machine, batch_size: int, tokens: int, width: int = 2) -> Floor:
    """The floor for a batch of windows with this many tokens each."""
    encoding = batch_size * (encoder_flops(sizes) + cross_flops(sizes)) / machine.flops
    steps = computing = reading = 0.0
    for before in range(tokens):
        computes = batch_size * decoder_flops(sizes, before) / machine.flops
        reads = weight_bytes(sizes, width) + batch_size * (cross_bytes(sizes, width) + self_bytes(sizes, before, width))
        computing += computes
        reading += reads / machine.bandwidth
        steps += max(computes, reads / machine.bandwidth)
    return Floor(apart=encoding + steps, together=max(encoding + computing, reading))


def seconds(sizes: Sizes, speech: float, tokens: int, flops: float) -> float:
    """The least time for `speech` seconds of sound that hold `tokens` tokens, at so many FLOPs in a second.

    As on a processor, whose caches and memory keep up with a batch: only the FLOPs count.
    """
    windows = speech / WINDOW
    each = tokens / windows if windows else 0.0
    decoded = tokens * decoder_flops(sizes, round(each / 2))
    return (windows * (encoder_flops(sizes) + cross_flops(sizes)) + decoded) / flops
