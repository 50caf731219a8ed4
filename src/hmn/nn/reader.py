"""Readers: the cells that each query attends to, and their weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.checks import as_ids, check_k
from hmn.index.protocol import Index, Searcher
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.strategy import Candidates, Strategy, as_strategy
from hmn.nn.memory.growing import gaps_of, held_cells
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.over_ranks import IndexedOverRanks, checked_indexed, is_remote
from hmn.nn.parts import CellMemory
from hmn.nn.products import inner_products
from hmn.nn.settings import as_floats, check_whole
from hmn.results import Read, SearchResult


class SoftmaxReader:
    """Full softmax attention: every cell is a candidate and takes part in the normaliser.

    Args:
        indexed: a memory with exact search, which finds the cells that are shown.

    Attributes:
        indexed: the memory that is read.
        searcher: what ``read`` searches with: the indexed memory.
    """

    name = "softmax"

    def __init__(self, indexed: IndexedMemory[CellMemory] | IndexedOverRanks) -> None:
        self.indexed = checked_indexed(indexed)
        self.searcher: Searcher = self.indexed

    @property
    def index(self) -> Index:
        """The search structure of the memory."""
        return self.indexed.index

    def candidates(
        self,
        query: Tensor,
        target: Tensor,  # noqa: ARG002 - the protocol's signature
        generator: torch.Generator,  # noqa: ARG002
    ) -> Candidates:
        """See ``Reader.candidates``: all N cells.

        Raises:
            ConfigError: the cells lie on several ranks, and would all have to be fetched.
        """
        query = as_floats(query, "query")
        if is_remote(self.indexed.memory):
            raise ConfigError(
                "the candidates of a SoftmaxReader are all cells, which would have to be fetched from every "
                "rank, expected a few: train through a KMIPSReader; SoftmaxReader.read works over ranks"
            )
        cell = held_cells(self.indexed.memory, query.device)  # (N,)
        return Candidates(cell, torch.ones(len(cell), dtype=torch.float32, device=query.device))

    def read(self, query: Tensor, k: int) -> Read[Tensor | None]:
        """See ``Reader.read``; the weights are shares of the softmax over all N cells."""
        query = as_floats(query, "query")
        memory, result = self.indexed.memory, self.searcher.search(query, k)
        over_ranks = cast("IndexedOverRanks", self.indexed) if is_remote(memory) else None
        total = over_ranks.log_total(query) if over_ranks else log_total(memory, query)  # (B,)
        return _read(memory, (result.score - total.unsqueeze(1)).exp(), result)


class KMIPSReader:
    """K-MIPS attention: a softmax over the K cells of largest inner product (Chandar et al. 2016).

    In training the candidates serve the whole batch: the union of what the strategy gives for each query (its
    K best cells by default) and of the correct cells. At test time each query reads its own K cells alone.
    Where the cells lie on several ranks, the batch is that of all ranks together.

    Args:
        indexed: the memory that is read, with its index; or an ``hmn.distributed.ShardedMemory``.
        k: cells per query, K.
        strategy: strategy of the candidates in training, or its text; the K best cells if not given.

    Attributes:
        indexed: the memory that is read, with its index.
        searcher: what ``read`` searches with: the indexed memory. May be replaced by another ``Searcher``,
            such as ``hmn.nn.candidates.search.StrategySearch``.

    Raises:
        ConfigError: a setting is out of its range, or the strategy needs clusters and the index has none.
    """

    name = "kmips"

    def __init__(
        self,
        indexed: IndexedMemory[CellMemory] | IndexedOverRanks,
        k: int,
        strategy: Strategy | str | None = None,
    ) -> None:
        self.indexed = checked_indexed(indexed)
        self.k = check_whole("k", k, "the number of cells that a query reads")
        self.strategy = as_strategy(strategy, self.k, self.index) or Strategy(best_cells=self.k)
        self.searcher: Searcher = self.indexed

    @property
    def index(self) -> Index:
        """The search structure of the memory."""
        return self.indexed.index

    def candidates(self, query: Tensor, target: Tensor, generator: torch.Generator) -> Candidates:
        """See ``Reader.candidates``: the union over the batch."""
        query, target = as_floats(query, "query"), as_ids(target, "target")
        index = self.indexed.in_step(training=True)
        return candidates(self.strategy, index, query.detach(), target, generator=generator)

    def read(self, query: Tensor, k: int) -> Read[Tensor | None]:
        """See ``Reader.read``; the weights are a softmax over the K best cells, of which k are returned."""
        k = check_k(k)
        result = self.searcher.search(query, max(k, self.k))
        weight = torch.softmax(result.score[:, : self.k], dim=1)  # (B, K)
        weight = torch.nn.functional.pad(weight, (0, result.score.shape[1] - weight.shape[1]))
        shown = result._replace(score=result.score[:, :k], cell=result.cell[:, :k])
        return _read(self.indexed.memory, weight[:, :k], shown)


def log_total(memory: CellMemory, query: Tensor) -> Tensor:
    """Log of the sum of ``exp(score)`` over the cells of a memory, for queries ``(B, D)``: ``(B,)``."""
    score = inner_products(query, memory.snapshot())  # (B, N)
    if gaps_of(memory):
        score = score[:, held_cells(memory, score.device)]
    return torch.logsumexp(score, dim=1)


def _read(memory: CellMemory, weight: Tensor, result: SearchResult) -> Read[Tensor | None]:
    """Weigh the values of the cells that were found; unused places have no weight, never NaN."""
    weight = weight.masked_fill(result.cell < 0, 0.0)  # (B, k)
    values = memory.values_of(result.cell.clamp(min=0)) if len(memory) else None  # (B, k, V)
    value = None if values is None else (weight.unsqueeze(2) * values).sum(dim=1)  # (B, V)
    return Read(value, weight, result.cell, result.score, result.reads)
