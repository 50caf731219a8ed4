"""Readers: which cells a query attends to, and with which weights."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.protocol import Index, Searcher
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.strategy import Candidates, Strategy, clustered
from hmn.nn.parts import CellMemory
from hmn.results import Read


class SoftmaxReader:
    """Full softmax attention: every cell is a candidate and takes part in the normaliser.

    Args:
        index: an exact index over the memory's snapshot, which finds the cells that are shown.
    """

    name = "softmax"

    def __init__(self, index: Index) -> None:
        self.index = index
        self.searcher: Searcher = index

    def candidates(
        self,
        query: Tensor,
        memory: CellMemory,
        target: Tensor,  # noqa: ARG002 - the protocol's signature
        generator: torch.Generator,  # noqa: ARG002
    ) -> Candidates:
        """See ``Reader.candidates``: all N cells."""
        cell = torch.arange(len(memory), device=query.device)
        return Candidates(cell, torch.ones(len(cell), device=query.device))

    def read(self, query: Tensor, memory: CellMemory, k: int) -> Read:
        """See ``Reader.read``; the weights are shares of the softmax over all N cells."""
        found = self.searcher.search(query, k)
        total = torch.logsumexp(query @ memory.snapshot().T, dim=1, keepdim=True)  # (B, 1)
        return _read(memory, (found.score - total).exp(), found.score, found.cell, found.reads)


class KMIPSReader:
    """K-MIPS attention: a softmax over the K cells of largest inner product (Chandar et al. 2016).

    In training the candidates are the union of what the strategy gives for every query in the batch, the K
    best cells if nothing else is asked for, and of the correct cells; they serve the whole batch. At test
    time each query reads its own K cells alone.

    Args:
        index: searches the memory's snapshot.
        k: cells a query, K.
        strategy: of the candidates in training; the K best cells if not given.

    Attributes:
        searcher: what queries are read with: the index. May be set to something that stands before it, such
            as ``hmn.nn.candidates.search.StrategySearch``.

    Raises:
        ConfigError: the strategy needs clusters and the index has none.
    """

    name = "kmips"

    def __init__(self, index: Index, k: int, strategy: Strategy | None = None) -> None:
        self.index = index
        self.k = k
        self.strategy = Strategy(best_cells=k) if strategy is None else strategy
        self.searcher: Searcher = index
        if self.strategy.needs_clusters:
            clustered(self.strategy, index)

    def candidates(
        self,
        query: Tensor,
        memory: CellMemory,  # noqa: ARG002 - the protocol's signature
        target: Tensor,
        generator: torch.Generator,
    ) -> Candidates:
        """See ``Reader.candidates``: the batch union."""
        return candidates(self.strategy, self.index, query.detach(), target, generator=generator)

    def read(self, query: Tensor, memory: CellMemory, k: int) -> Read:
        """See ``Reader.read``; the weights are a softmax over the K best cells, of which k are given."""
        found = self.searcher.search(query, max(k, self.k))
        weight = torch.softmax(found.score[:, : self.k], dim=1)
        weight = torch.nn.functional.pad(weight, (0, found.score.shape[1] - weight.shape[1]))
        return _read(memory, weight[:, :k], found.score[:, :k], found.cell[:, :k], found.reads)


def _read(memory: CellMemory, weight: Tensor, score: Tensor, cell: Tensor, reads: Tensor) -> Read:
    weight = weight.masked_fill(cell < 0, 0.0)  # nothing was read there; a softmax over nothing is no number
    values = memory.values_of(cell.clamp(min=0)) if len(memory) else None  # (B, K, V)
    value = None if values is None else (weight.unsqueeze(2) * values).sum(dim=1)  # (B, V)
    return Read(value, weight, cell, score, reads)
