"""Builds the attention of a row, with its search structure."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hmn.facts.table import FactTable
from hmn.index.protocol import Clustered
from hmn.index.registry import make_index
from hmn.index.structures.base import Structure
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.paper.grid import HARD, KEYWORDS, OUR_CELLS_PER_CLUSTER, SOFTMAX, Row
from hmn.paper.network.attention.indexed import IndexedAttention
from hmn.paper.network.attention.keywords import KeywordAttention
from hmn.paper.network.attention.protocol import Attention
from hmn.paper.network.attention.reinforce import ReinforceAttention
from hmn.paper.network.attention.search_budget import (
    ROUNDS,
    TUNED_K,
    strategy_of,
    strategy_reads,
    target_reads,
    tuned_to,
)
from hmn.paper.preset import Preset
from hmn.qa.cells import Cells


def make_attention(
    row: Row, preset: Preset, memory: Memory, facts: FactTable, cells: Cells, seed: int
) -> Attention:
    """The attention of a row; building its search structure takes a while for clusters."""
    if row.reader == HARD:
        return ReinforceAttention(IndexedMemory(memory))
    if row.reader == KEYWORDS:
        return KeywordAttention(memory, facts, cells)
    indexed = indexed_memory(row.index, preset, memory, seed)
    if row.reader == SOFTMAX:
        return IndexedAttention(SoftmaxReader(indexed), indexed)
    if row.strategy:
        return _by_strategy(row, preset, indexed, seed)
    if row.index == "exact":
        return IndexedAttention(KMIPSReader(indexed, row.k), indexed)
    reads = target_reads(preset, len(memory), row.speed_up)
    # without a k, all cells that a query looks at are candidates: hardly any looks at twice the mean
    strategy = Strategy(best_cells=row.k or 2 * reads)
    reader = KMIPSReader(indexed, row.k or TUNED_K, strategy)
    return IndexedAttention(reader, indexed, lambda query: tuned_to(indexed.index, query, reads))


def indexed_memory(text: str, preset: Preset, memory: Memory, seed: int) -> IndexedMemory[Memory]:
    """The memory with a search structure of a row or a test, built on its cells.

    Args:
        text: structure, as ``make_index`` takes it, with placeholders for sizes.
        preset: sizes.
        memory: the fixed cells.
        seed: seed of the structure.
    """
    sizes = {
        "few": preset.few_clusters,
        "many": preset.many_clusters,
        "wide": preset.wide_clusters,
        "ours": max(1, len(memory) // OUR_CELLS_PER_CLUSTER),
        "prefix": preset.prefix,
    }
    settings = {} if text == "exact" else {"seed": seed}
    index = make_index(text.format(**sizes), **settings)
    if isinstance(index, Structure):
        index.fills = False  # the paper's searches give the cells that they look at, however few
    indexed = IndexedMemory(memory, index)
    indexed.rebuild()
    return indexed


def _by_strategy(row: Row, preset: Preset, indexed: IndexedMemory[Memory], seed: int) -> IndexedAttention:
    """Attention with a strategy, whose number of clusters is tuned to the reads."""
    reads, keys, index = strategy_reads(preset, len(indexed)), indexed.memory.snapshot(), indexed.index
    assert isinstance(index, Clustered)
    centroids = len(index.centroids())  # each a read of every query
    cells_per_cluster = max(1, len(keys) // centroids)
    reader = KMIPSReader(indexed, TUNED_K, strategy_of(row.strategy, 1, cells_per_cluster))

    def tune(query: Tensor) -> dict[str, Any]:
        """Try numbers of clusters, each by the reads of the one before; reads rise with them, unevenly."""
        tried: dict[int, float] = {}  # reads by number of clusters
        clusters = max(1, (reads - centroids) // cells_per_cluster)
        for _ in range(ROUNDS):
            strategy = strategy_of(row.strategy, clusters, cells_per_cluster)
            result = StrategySearch(index, strategy, keys, seed).search(query, TUNED_K)
            tried[clusters] = float(result.reads.mean())
            share = (reads - centroids) / max(1.0, tried[clusters] - centroids)
            clusters = max(1, min(round(clusters * share), centroids))
            if clusters in tried:
                break
        best = min(tried, key=lambda number: abs(tried[number] - reads))
        reader.strategy = strategy_of(row.strategy, best, cells_per_cluster)
        reader.searcher = StrategySearch(index, reader.strategy, keys, seed)
        return {
            "setting": "strategy",
            "value": str(reader.strategy),
            "reads": tried[best],
            "reached": abs(tried[best] - reads) <= reads / 10,
        }

    return IndexedAttention(reader, indexed, tune)
