"""What is known of the rows of a batch while they are decoded: all of it on the device.

A row is one sequence of tokens: a window has `group` of them, the beams of a search or the candidates of sampling.
Nothing here makes the processor wait for the device, so that a whole step can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

MOST_DRAWS: Final = 449
"""Random numbers that a row may need: one a token."""


class Rows:
    """The state of `windows` windows of `group` rows each, by their place in the batch.

    A window that is not `open` is finished, or none at all: nothing that is done to the batch changes it.
    """

    def __init__(self, windows: int, group: int, *, most: int, candidates: int, device: torch.device) -> None:
        """Make room. most: tokens of a window's text. candidates: sequences that a search finishes, or 0."""
        self.group = group
        self.candidates = candidates

        def per_row(kind: torch.dtype) -> Tensor:
            return torch.zeros(windows * group, dtype=kind, device=device)

        def per_window(kind: torch.dtype, *more: int) -> Tensor:
            return torch.zeros((windows, *more), dtype=kind, device=device)

        self.token = per_row(torch.long)
        """The latest token."""
        self.place = per_row(torch.long)
        """Its index in the row, prompt included."""
        self.total = per_row(torch.float32)
        """Log probability of all chosen tokens."""
        self.ended = per_row(torch.bool)
        self.length = per_row(torch.long)
        """Tokens chosen, without the end."""
        self.stamp = per_row(torch.bool)
        """Whether the latest token is a timestamp; true before the first."""
        self.stamp_before = per_row(torch.bool)
        """Whether the one before was."""
        self.time = per_row(torch.long)
        """The latest timestamp in steps of 0.02 s, -1 for none."""
        self.temperature = per_row(torch.float32)
        # One place more than there can be tokens: what is written after the end lands there.
        self.tokens = torch.zeros((windows * group, most + 1), dtype=torch.long, device=device)
        """The chosen tokens; what lies behind `length` means nothing."""
        self.noise = torch.zeros((windows * group, 0), device=device)
        self.open = per_window(torch.bool)
        self.count = per_window(torch.long)
        """Steps since the window began."""
        self.most = per_window(torch.long)
        """Steps that it may take."""
        self.silence = per_window(torch.float32)
        """The probability that nobody speaks."""
        # The last place of these is where what is not wanted goes.
        self.found = torch.zeros(windows, dtype=torch.long, device=device)
        """Finished sequences of a search."""
        self.found_tokens = torch.zeros((windows * candidates + 1, most + 1), dtype=torch.long, device=device)
        self.found_length = torch.zeros(windows * candidates + 1, dtype=torch.long, device=device)
        self.found_total = torch.zeros(windows * candidates + 1, device=device)
        self._of_rows = (
            *("token", "place", "total", "ended", "length", "stamp", "stamp_before", "time", "temperature"),
            *("tokens", "noise"),
        )
        self._of_windows = ("open", "count", "most", "silence", "found")
        self._of_candidates = ("found_tokens", "found_length", "found_total")

    @property
    def device(self) -> torch.device:
        """Where it all lies."""
        return self.token.device

    def begin(
        self,
        windows: Sequence[int],
        *,
        tokens: Sequence[Sequence[int]],
        temperatures: Sequence[float],
        most: Sequence[int],
        seeds: Sequence[int],
    ) -> None:
        """Fresh windows at these places.

        tokens: what each begins with; the last of them is fed by the next step. most: steps each may take.
        seeds: what makes their sampling repeatable.
        """
        group, device = self.group, self.device
        at = torch.tensor(windows, device=device)
        rows = torch.tensor([window * group + i for window in windows for i in range(group)], device=device)

        def repeated(values: Sequence[float]) -> Tensor:
            return torch.tensor([value for value in values for _ in range(group)], device=device)

        self.token[rows] = repeated([each[-1] for each in tokens])
        self.place[rows] = repeated([len(each) - 1 for each in tokens])
        self.temperature[rows] = repeated(list(temperatures)).float()
        self.total[rows] = 0.0
        self.ended[rows] = False
        self.length[rows] = 0
        self.stamp[rows] = True
        self.stamp_before[rows] = True
        self.time[rows] = -1
        if any(temperature > 0 for temperature in temperatures):
            if not self.noise.shape[1]:
                self.noise = torch.zeros((len(self.token), MOST_DRAWS), device=device)
            self.noise[rows] = torch.cat([noise(seed, group) for seed in seeds]).to(device)
        self.count[at] = 0
        self.most[at] = torch.tensor(most, device=device)
        self.found[at] = 0
        self.open[at] = True

    def follow(self, chosen: Tensor, live: Tensor, timestamp_begin: int) -> None:
        """The first rows go on with the chosen tokens. chosen, live: (rows,); a row that is not live stays as it is."""
        rows = slice(0, len(chosen))
        is_stamp = chosen >= timestamp_begin
        self.stamp_before[rows] = torch.where(live, self.stamp[rows], self.stamp_before[rows])
        self.stamp[rows] = torch.where(live, is_stamp, self.stamp[rows])
        self.time[rows] = torch.where(live & is_stamp, chosen - timestamp_begin, self.time[rows])
        self.token[rows] = torch.where(live, chosen, self.token[rows])
        self.place[rows] += live

    def reorder(self, sources: Tensor) -> None:
        """Row i becomes what row sources[i] was, for the first rows."""
        rows = slice(0, len(sources))
        for name in ("stamp", "stamp_before", "time", "tokens", "length"):
            held = getattr(self, name)
            held[rows] = held[sources]

    def move(self, source: int, target: int) -> None:
        """A window takes the place of another."""
        for names, width in (
            (self._of_rows, self.group),
            (self._of_windows, 1),
            (self._of_candidates, self.candidates),
        ):
            for name in names:
                held = getattr(self, name)
                held[target * width : (target + 1) * width] = held[source * width : (source + 1) * width].clone()
        self.open[source] = False


def noise(seed: int, group: int) -> Tensor:
    """A row of numbers in [0, 1) for every candidate, the same for the same seed on any device and in any batch."""
    return torch.rand((group, MOST_DRAWS), generator=torch.Generator().manual_seed(seed))


def spread(values: Tensor, group: int) -> Tensor:
    """Each window's values once for every row of it."""
    return values if group == 1 else values.repeat_interleave(group, 0)
