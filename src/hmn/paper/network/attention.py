"""How the network of a row attends in training and searches at test time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmn._native import best_of
from hmn.facts.table import FactTable
from hmn.index.protocol import Clustered, Index
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.nn.attention.hard import HardAttention
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.loss import fixed_keys_nll
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.parts import CellMemory, Reader
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.paper.grid import HARD, KEYWORDS, SOFTMAX, Row
from hmn.paper.network.keyword_filter import KeywordFilter
from hmn.paper.network.question_words import Asked
from hmn.paper.network.search_budget import (
    ROUNDS,
    TUNED_K,
    strategy_of,
    strategy_reads,
    target_reads,
    tuned_to,
)
from hmn.paper.preset import Preset
from hmn.qa.cells import Cells
from hmn.results import SearchResult


class Reading(Protocol):
    """Attention over the cells of a memory."""

    def loss(
        self, query: Tensor, asked: Asked, numbers: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """Loss of a batch, a scalar, and the number of cells that its softmax normalised over.

        Args:
            query: ``(B, D)`` of the questions.
            asked: all questions.
            numbers: ``(B,)`` which of them.
            generator: of what is drawn.
        """
        ...

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:
        """The k best cells that each question finds, by its query ``(B, D)`` and its text."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What training has changed beside the words."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        ...

    def tune(self, query: Tensor) -> dict[str, Any]:
        """Bring the search to the reads that it may spend, on queries such as are asked now; says how."""
        ...


class _Stateless:
    """A reading that training changes in nothing but its words."""

    def state(self) -> dict[str, Tensor]:
        """See ``Reading.state``: nothing."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """See ``Reading.load``."""


class ReaderReading(_Stateless):
    """Full softmax or K-MIPS, by the library's readers.

    Args:
        reader: over an index that is built.
        memory: the fixed cells.
        tuned: brings the search to its reads, if it is to be tuned.
    """

    def __init__(
        self, reader: Reader, memory: Memory, tuned: Callable[[Tensor], dict[str, Any]] | None = None
    ) -> None:
        self.reader, self.memory, self._tuned = reader, memory, tuned

    def loss(
        self, query: Tensor, asked: Asked, numbers: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """See ``Reading.loss``."""
        added = _added(query, self.memory, asked, numbers)
        cell = self.reader.candidates(query, added, generator).cell
        return _nll(query, self.memory, cell, asked, numbers), len(cell)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:  # noqa: ARG002
        """See ``Reading.search``."""
        return self.reader.searcher.search(query, k)

    def tune(self, query: Tensor) -> dict[str, Any]:
        """See ``Reading.tune``."""
        return {} if self._tuned is None else self._tuned(query)


class HardReading:
    """Hard attention trained by REINFORCE: the reward is 1 where the cell that was drawn is right.

    A step draws with its own generator, so that a run which is stopped goes on with the same draws.

    Args:
        memory: the fixed cells.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._exact = ExactIndex(memory.snapshot())
        first = HardAttention(memory)
        device = memory.keys.device
        self._baseline, self._steps = first.baseline.to(device), first.steps.to(device)

    def loss(
        self,
        query: Tensor,
        asked: Asked,
        numbers: NDArray[np.int64],
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """See ``Reading.loss``."""
        drawn = int(torch.randint(1 << 62, (1,), generator=generator))
        attention = HardAttention(self._memory, seed=drawn).train()
        attention.baseline, attention.steps = self._baseline, self._steps  # which its loss moves in place
        read = attention(query)
        single = _single(asked, numbers)
        if single is None:
            cell, place = torch.unique(read.cell, return_inverse=True)
            right, _ = asked.target.masks(numbers, cell)
            reward = right.gather(1, place.view(-1, 1)).squeeze(1)
        else:
            reward = read.cell.squeeze(1) == single.to(read.cell.device)
        return attention.loss(read, reward), len(self._memory)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:  # noqa: ARG002
        """See ``Reading.search``; the best cell is what hard attention reads."""
        return self._exact.search(query, k)

    def tune(self, query: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """See ``Reading.tune``: there is nothing to tune."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See ``Reading.state``: the moving average of the rewards."""
        return {"baseline": self._baseline, "steps": self._steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """See ``Reading.load``."""
        self._baseline.copy_(state["baseline"])
        self._steps.copy_(state["steps"])


class KeywordReading(_Stateless):
    """A softmax over the facts that share a rare n-gram with a question of the batch.

    At test time each question looks at its own facts alone; where there are none it finds nothing.

    Args:
        memory: the fixed cells.
        facts: the table.
        cells: which facts the cells stand for.
    """

    def __init__(self, memory: Memory, facts: FactTable, cells: Cells) -> None:
        self._memory, self._cells, self._filter = memory, cells, KeywordFilter(facts)
        self._known: dict[str, NDArray[np.int32]] = {}

    def loss(
        self,
        query: Tensor,
        asked: Asked,
        numbers: NDArray[np.int64],
        generator: torch.Generator,  # noqa: ARG002 - the protocol's signature
    ) -> tuple[Tensor, int]:
        """See ``Reading.loss``."""
        found = np.unique(np.concatenate([self._facts_of(asked.text[number]) for number in numbers]))
        shared = torch.from_numpy(self._cells.of_fact.take(found.astype(np.int64)).flat)
        added = _added(query, self._memory, asked, numbers)
        cell = torch.unique(torch.cat([shared.to(query.device), added]))
        return _nll(query, self._memory, cell, asked, numbers), len(cell)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:
        """See ``Reading.search``; reads count the keys alone."""
        found = self._filter.facts_for(texts)
        rows = [
            torch.from_numpy(np.unique(self._cells.of_fact.take(found.row(row)).flat))
            for row in range(len(texts))
        ]
        candidate = pad_sequence(rows, batch_first=True, padding_value=-1).to(query.device)
        score, cell = best_of(query, self._memory.snapshot(), candidate, k)
        scored = (candidate >= 0).sum(dim=1)
        return SearchResult(score, cell, scored.float(), scored)

    def tune(self, query: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """See ``Reading.tune``: there is nothing to tune."""
        return {}

    def _facts_of(self, text: str) -> NDArray[np.int32]:
        """Facts of a training question, which is asked again in every epoch."""
        if text not in self._known:
            self._known[text] = self._filter.facts_for([text]).flat.astype(np.int32)
        return self._known[text]

    def coverage(self, texts: Sequence[str], fact: NDArray[np.int64]) -> float:
        """Share of questions whose fact ``(Q,)`` has a cell among their candidates."""
        found = self._filter.facts_for(texts)
        held = 0
        for row, one in enumerate(fact.tolist()):
            candidates = self._cells.of_fact.take(found.row(row)).flat
            held += bool(np.isin(self._cells.of_fact.row(one), candidates).any())
        return held / max(1, len(texts))


def make_reading(
    row: Row, preset: Preset, memory: Memory, facts: FactTable, cells: Cells, seed: int
) -> Reading:
    """How a row attends; its search structure is built, which takes a while for clusters."""
    if row.reader == HARD:
        return HardReading(memory)
    if row.reader == KEYWORDS:
        return KeywordReading(memory, facts, cells)
    index = built_index(row.index, preset, memory, seed)
    indexed = IndexedMemory[CellMemory](memory, index)
    if row.reader == SOFTMAX:
        return ReaderReading(SoftmaxReader(indexed), memory)
    if row.strategy:
        return _by_strategy(row, preset, indexed, seed)
    if row.index == "exact":
        return ReaderReading(KMIPSReader(indexed, row.k), memory)
    reads = target_reads(preset, len(memory), row.speed_up)
    # without a k all cells that were looked at are candidates: hardly a query looks at twice the mean
    strategy = Strategy(best_cells=row.k or 2 * reads)
    reader = KMIPSReader(indexed, row.k or TUNED_K, strategy)
    return ReaderReading(reader, memory, lambda query: tuned_to(index, query, reads))


def built_index(text: str, preset: Preset, memory: Memory, seed: int) -> Index:
    """The search structure of a row or a test, built on the memory's cells."""
    settings = {
        "few": preset.few_clusters,
        "many": preset.many_clusters,
        "wide": preset.wide_clusters,
        "prefix": preset.prefix,
    }
    seeded = {} if text == "exact" else {"seed": seed}
    index = make_index(text.format(**settings), **seeded)
    index.build(memory.snapshot())
    return index


def _by_strategy(row: Row, preset: Preset, indexed: IndexedMemory[CellMemory], seed: int) -> ReaderReading:
    memory, index = indexed.memory, indexed.index
    assert isinstance(memory, Memory)
    reads, keys = strategy_reads(preset, len(memory)), memory.snapshot()
    assert isinstance(index, Clustered)
    cells_a_cluster = max(1, len(keys) // len(index.centroids()))
    reader = KMIPSReader(indexed, TUNED_K, strategy_of(row.strategy, 1, cells_a_cluster))

    def tuned(query: Tensor) -> dict[str, Any]:
        """Find the number of clusters whose reads come nearest; they rise with it, if not evenly."""
        tried: dict[int, float] = {}
        clusters = max(1, (reads - len(index.centroids())) // cells_a_cluster)
        for _ in range(ROUNDS):
            strategy = strategy_of(row.strategy, clusters, cells_a_cluster)
            found = StrategySearch(index, strategy, keys, seed).search(query, TUNED_K)
            tried[clusters] = float(found.reads.mean())
            fixed = len(index.centroids())
            share = (reads - fixed) / max(1.0, tried[clusters] - fixed)
            clusters = max(1, min(round(clusters * share), len(index.centroids())))
            if clusters in tried:
                break
        best = min(tried, key=lambda one: abs(tried[one] - reads))
        reader.strategy = strategy_of(row.strategy, best, cells_a_cluster)
        reader.searcher = StrategySearch(index, reader.strategy, keys, seed)
        return {
            "setting": "strategy",
            "value": str(reader.strategy),
            "reads": tried[best],
            "reached": abs(tried[best] - reads) <= reads / 10,
        }

    return ReaderReading(reader, memory, tuned)


def _single(asked: Asked, numbers: NDArray[np.int64]) -> Tensor | None:
    """The right cell ``(B,)`` of each question, None if any has several."""
    right = asked.target.right.take(numbers)
    return torch.from_numpy(right.flat) if bool((right.length == 1).all()) else None


def _added(query: Tensor, memory: Memory, asked: Asked, numbers: NDArray[np.int64]) -> Tensor:
    """Right cells that the candidates must hold."""
    single = _single(asked, numbers)
    if single is not None:
        return single.to(query.device)
    return asked.target.added(numbers, query, memory.snapshot())


def _nll(query: Tensor, memory: Memory, cell: Tensor, asked: Asked, numbers: NDArray[np.int64]) -> Tensor:
    """Mean loss of a softmax over the candidates, which are in ascending order."""
    single = _single(asked, numbers)
    if single is not None:
        row, column = torch.arange(len(numbers)), torch.searchsorted(cell, single.to(cell.device))
    else:
        row, column = asked.target.masks(numbers, cell)[0].nonzero(as_tuple=True)
    candidates = None if len(cell) == len(memory) else cell
    return fixed_keys_nll(query, memory.keys, row.to(cell.device), column, candidates).mean()
