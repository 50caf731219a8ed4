"""The layers that are compared, each with its optimisers, in a process of its own."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.index.worker import memory
from bench.layer.product_keys import ProductKeyLayer
from hmn.index.structures.exact import ExactIndex
from hmn.index.tuning import recall_at_k
from hmn.nn.layer.layer import MemoryLayer, split_parameters
from hmn.nn.layer.use import CellUse
from hmn.nn.row_adam import RowAdam

FEATURES, HEADS, K, KEY_FEATURES = 128, 4, 32, 64
"""Features of a position and of a value, queries per position, cells per query, features of a key."""
BATCH = 2048
"""Positions per step."""
RATE = 1e-3
"""Learning rate of everything."""
LITTLE = 1e-7
"""Learning rate at which reads stay spread as they begin: keys, queries and values hardly move."""
ASKED = 256
"""Queries that recall is measured on, besides those of the step."""
SYSTEMS = {
    "hmn": "hmn",
    "dense": "product keys, dense gradients, fused Adam",
    "sparse": "product keys, sparse gradients, SparseAdam",
    "rows": "product keys, sparse gradients, RowAdam of hmn",
}
"""Layers that are compared, by name."""


def layer_of(name: str, cells: int, seed: int = 0) -> nn.Module:
    """A layer by the name of its system."""
    torch.manual_seed(seed)
    if name == "hmn":
        return MemoryLayer(FEATURES, cells, HEADS, K, key_features=KEY_FEATURES, seed=seed)
    return ProductKeyLayer(FEATURES, cells, HEADS, K, key_features=KEY_FEATURES, sparse=name != "dense")


def optimisers_of(
    model: nn.Module, rate: float = RATE, rate_of_rows: float = RATE, *, sparse_adam: bool = False
) -> list[torch.optim.Optimizer]:
    """Adam for what has dense gradients, an optimiser of rows for the rest; indexes follow the latter."""
    dense, rows = split_parameters(model)
    found: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=rate, fused=True)]
    if rows:
        kind = torch.optim.SparseAdam if sparse_adam else RowAdam
        found.append(kind(rows, lr=rate_of_rows))
    for module in model.modules():
        if isinstance(module, MemoryLayer):
            module.follow(found[-1])
    return found


@torch.no_grad()
def found_by(layer: MemoryLayer, positions: Tensor) -> float:
    """Share of the k best cells that the index finds for the queries of positions ``(P, d_model)``."""
    query = layer._queries(positions).flatten(0, -2)
    indexed = layer._layers()[0].indexed
    best = ExactIndex(indexed.memory.snapshot().clone()).search(query, K)
    return recall_at_k(indexed.in_step(training=True).search(query, K), best)


class System:
    """A layer that learns a fixed map of random positions, at first by hardly moving.

    Args:
        name: one of ``SYSTEMS``.
        cells: number of cells.
        threads: number of threads.
    """

    def __init__(self, name: str, cells: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.before = memory("VmRSS")
        self.cells, self.layer = cells, layer_of(name, cells)
        self.optimisers = optimisers_of(self.layer, LITTLE, LITTLE, sparse_adam=name == "sparse")
        self.generator = torch.Generator().manual_seed(1)
        self.map = torch.randn(FEATURES, FEATURES, generator=self.generator) * FEATURES**-0.5

    def steps(self, count: int) -> list[list[float]]:
        """Seconds of each step: forward, backward, optimiser with upkeep."""
        return [self._step() for _ in range(count)]

    def learn(self, rate: float) -> None:
        """Go on with another learning rate."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate

    def cells_read(self) -> int:
        """Number of different cells that one step reads."""
        use = CellUse(self.cells)
        vars(self.layer)["use"] = use
        self._step()
        vars(self.layer)["use"] = None
        return int((use.reads > 0).sum())

    def peak(self) -> float:
        """Largest memory so far, in MiB, without what the process had before the layer."""
        return memory("VmHWM") - self.before

    def recall(self) -> float | None:
        """Share of the k best cells that the index finds for queries of new positions; None where exact."""
        layer = self.layer
        if not isinstance(layer, MemoryLayer):
            return None
        return found_by(layer, self._positions(ASKED // HEADS))

    def _positions(self, count: int) -> Tensor:
        return torch.randn(count, FEATURES, generator=self.generator)

    def _step(self) -> list[float]:
        inputs = self._positions(BATCH)
        wanted = torch.tanh(inputs @ self.map)
        times = [time.perf_counter()]
        loss = (self.layer(inputs) - wanted).square().mean()
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        for optimiser in self.optimisers:
            optimiser.step()
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        times.append(time.perf_counter())
        return [after - before for before, after in pairwise(times)]
