"""CUDA graphs: a step's hundreds of kernels launched as one.

The first time a shape is asked for, its step is run once (which is that step) and then captured for the times to come.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch


class Graphs:
    """Steps by shape. What a step reads and writes must stay where it is in memory."""

    def __init__(self) -> None:
        """No shape is known yet."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, shape: Hashable, step: Callable[[], None]) -> None:
        """Do the step once."""
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay()
            return
        step()
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
        ):
            step()
        self._graphs[shape] = graph
