"""Search over several shards in one process finds what a search over all cells finds."""

from __future__ import annotations

import pytest
import torch
from bench.distributed.plan.approximate import merged
from bench.distributed.plan.data import K, make

from hmn.index.structures.exact import ExactIndex


@pytest.mark.parametrize("shards", [1, 3])
def test_the_best_of_all_shards_are_merged(shards: int) -> None:
    made = make(1_000, 8)
    indexes = [ExactIndex(part.clone()) for part in torch.tensor_split(made.keys, shards)]
    found = merged(indexes, made.queries, len(made.keys))
    assert torch.equal(found.cell, made.best.cell)
    assert torch.allclose(found.score, made.best.score)
    assert found.reads.tolist() == [1_000.0] * 8
    assert found.cell.shape == (8, K)


def test_halves_of_the_queries_share_none() -> None:
    made = make(500, 6)
    (first, best), (second, _) = made.half(0), made.half(1)
    assert torch.equal(torch.cat([first, second]), made.queries)
    assert torch.equal(best.cell, made.best.cell[:3])
