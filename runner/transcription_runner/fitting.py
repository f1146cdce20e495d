"""How many windows are decoded at once: as many as a GPU's free memory holds, 8 or 16 on a processor."""

from __future__ import annotations

from typing import Final

import torch

from transcription_runner.decoding import Method, batch_of
from transcription_runner.network import Network

CPU_BATCH: Final = 8
"""Windows at once on a processor, whatever they take."""
CPU_ROOM: Final = 1_600_000_000
"""Bytes that twice as many may take there: of a small model the weights are much of what a step reads."""
MOST: Final = 128
"""Windows at once from which more gain next to nothing."""

_SHARE: Final = 0.8
"""Of the free memory: the rest is for the encoder, and for windows to be repeated."""

_LOGITS: Final = 6
"""Numbers in float32 for each token of the vocabulary while one is chosen."""


def fitting_batch(network: Network, method: Method) -> int:
    """Windows that a session of this method has room for on the network's device: 1 at least."""
    window = window_bytes(network, method)
    if network.device.type != "cuda":
        return 2 * CPU_BATCH if 2 * CPU_BATCH * window <= CPU_ROOM else CPU_BATCH
    return largest_batch(_free(network.device), window)


def window_bytes(network: Network, method: Method) -> int:
    """What a window takes in a session: its cache and, while a token is chosen, its logits."""
    config = network.config
    entry = 2 * config.decoder_layers * config.d_model * network.dtype.itemsize
    row = config.max_target_positions * entry + _LOGITS * 4 * config.vocab_size
    return int(config.max_source_positions * entry + method.group * row)


def largest_batch(free: int, window: int) -> int:
    """The largest batch, of those that a step is made for, whose windows of so many bytes fit into `free` bytes."""
    fits = min(MOST, max(1, int(free * _SHARE) // window))
    return next(size for size in range(fits, 0, -1) if batch_of(size) == size)


def _free(device: torch.device) -> int:
    """What the card has free, and what torch holds of it without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
