"""Reading with a strategy finds the best of the candidates that ``candidates`` draws for each query alone."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.candidates.fake_clusters import CELLS, CLUSTERS, FEATURES, FakeClusters, made
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.index.structures.exact import ExactIndex
from hmn.nn.candidates import search as module
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy

quick = settings(max_examples=40, deadline=None)


def one_by_one(strategy: Strategy, index: FakeClusters, keys: Tensor, query: Tensor) -> list[set[int]]:
    """What a strategy without anything drawn may read, cluster by cluster, for each query alone."""
    rows = []
    for number in range(len(query)):
        cells: set[int] = set()
        for cell in (keys @ query[number]).argsort(descending=True)[: strategy.best_cells]:
            cells.add(int(cell))
        for cluster in (index.centroids() @ query[number]).argsort(descending=True)[: strategy.top_clusters]:
            cells |= {at for at in range(len(keys)) if index.owner[at] == cluster}
        rows.append(cells)
    return rows


@quick
@given(
    best_cells=st.integers(0, 6),
    top=st.integers(0, CLUSTERS),
    k=st.integers(1, CELLS + 5),
    seed=st.integers(0, 99),
)
def test_reading_with_a_strategy_is_the_best_of_its_candidates(
    best_cells: int, top: int, k: int, seed: int
) -> None:
    if not best_cells + top:
        return
    index, keys, query = made(seed)
    strategy = Strategy(best_cells=best_cells, top_clusters=top)
    found = StrategySearch(index, strategy, keys).search(query, k)
    for number, cells in enumerate(one_by_one(strategy, index, keys, query)):
        ranked = sorted(cells, key=lambda cell: -float(keys[cell] @ query[number]))[:k]
        assert found.cell[number].tolist() == ranked + [-1] * (k - len(ranked))
        torch.testing.assert_close(found.score[number, : len(ranked)], keys[ranked] @ query[number])
        assert bool((found.score[number, len(ranked) :] == -torch.inf).all())
        # the index scores all cells for its part, and knows these scores
        scored = len(cells) + (CELLS - min(best_cells, CELLS) if best_cells else 0)
        assert int(found.cells_scored[number]) == scored
        assert float(found.reads[number]) == scored + (CLUSTERS if top else 0)


def test_what_a_query_draws_is_its_own_in_any_batch_and_at_any_depth() -> None:
    index, keys, query = made(1)
    strategy = Strategy(sample_clusters=2, rand_block=8)
    searcher = StrategySearch(index, strategy, keys, seed=3)
    assert len(searcher) == CELLS
    together = searcher.search(query, CELLS)
    for number in range(len(query)):
        alone = searcher.search(query[number : number + 1], CELLS)
        assert torch.equal(alone.cell[0], together.cell[number])
        few = searcher.search(query[number : number + 1], 3)
        assert torch.equal(few.cell[0], together.cell[number, :3])
    lengths = {int((row >= 0).sum()) for row in together.cell}
    assert max(lengths) < CELLS
    other = StrategySearch(index, strategy, keys, seed=4).search(query, CELLS)
    assert not torch.equal(other.cell, together.cell)
    many = torch.nn.functional.normalize(torch.randn(60, FEATURES), dim=1)
    drawn = StrategySearch(index, Strategy(rand_block=20), keys).search(many, 1)
    assert set((drawn.cell[:, 0] // 20).tolist()) == {0, 1, 2}, "each query draws a block of its own"


def test_reading_with_a_strategy_refuses_what_does_not_fit() -> None:
    index, keys, query = made()
    with pytest.raises(ConfigError, match="needs an index of clusters"):
        StrategySearch(ExactIndex(keys), Strategy(top_clusters=1), keys)
    with pytest.raises(ShapeError, match=f"59 keys, expected those of the index's {CELLS} cells"):
        StrategySearch(index, Strategy(best_cells=1), keys[:-1])
    with pytest.raises(ConfigError, match="k is 0"):
        StrategySearch(index, Strategy(best_cells=1), keys).search(query, 0)
    index.remove(torch.tensor([0]))
    index.add(torch.tensor([10**7]), 50 * query[:1])
    with pytest.raises(ShapeError, match=f"a cell 10000000, expected cells 0 to {CELLS - 1}"):
        StrategySearch(index, Strategy(best_cells=1), keys).search(query[:1], 3)
    index, keys, query = made()
    nothing = StrategySearch(index, Strategy(top_clusters=1), keys).search(query[:0], 3)
    assert nothing.cell.shape == (0, 3)


@pytest.mark.parametrize("part", [1, 2, 256])
@quick
@given(
    best_cells=st.integers(0, 4),
    top=st.integers(0, CLUSTERS),
    sample=st.integers(0, CLUSTERS + 1),
    block=st.integers(0, CELLS + 5),
    seed=st.integers(0, 99),
)
def test_a_query_reads_what_it_would_draw_in_training_alone(
    part: int, best_cells: int, top: int, sample: int, block: int, seed: int
) -> None:
    if not best_cells + top + sample + block:
        return
    index, keys, query = made(seed)
    strategy = Strategy(
        best_cells=best_cells, top_clusters=top, sample_clusters=sample, rand_block=block, temperature=0.3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES_AT_A_TIME", part)
        found = StrategySearch(index, strategy, keys, seed=5).search(query, CELLS)
    for number in range(len(query)):
        one = query[number : number + 1]
        best = index.search(one, best_cells).cell[0] if best_cells else torch.empty(0, dtype=torch.int64)
        cells = best
        if top + sample + block:
            generator = torch.Generator().manual_seed(zlib.crc32((one[0] > 0).numpy().tobytes(), 5))
            others = replace(strategy, best_cells=0)
            cells = candidates(others, index, one, best, generator=generator).cell
        ranked = sorted(cells.tolist(), key=lambda cell: -float(keys[cell] @ query[number]))
        assert found.cell[number].tolist() == ranked + [-1] * (CELLS - len(ranked))
        scored = len(ranked) + (CELLS - best_cells if best_cells else 0)
        assert int(found.cells_scored[number]) == scored
