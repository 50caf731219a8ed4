"""A search stays at its recall while queries change, and does not look further than that pays."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index import ClusterIndex, ExactIndex, HierarchicalIndex, recall_at_k
from hmn.index.protocol import Index
from hmn.nn.layer.keeping import MOST_CHANGED, RecallKeeper

K, TARGET = 10, 0.9


def clustered(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Centres ``(256, 16)`` and keys ``(8192, 16)`` around them."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(256, 16, generator=generator)
    keys = centre.repeat_interleave(32, dim=0) + 0.5 * torch.randn(8192, 16, generator=generator)
    return centre, keys


def near(centre: Tensor, noise: float, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = centre[torch.randint(len(centre), (count,), generator=generator)]
    return chosen + noise * torch.randn(count, 16, generator=generator)


def recall(index: Index, keys: Tensor, query: Tensor) -> float:
    return recall_at_k(index.search(query, K), ExactIndex(keys).search(query, K))


def test_the_effort_follows_queries_that_become_harder_and_easier_again() -> None:
    centre, keys = clustered()
    for index in (ClusterIndex(256, codes=None), HierarchicalIndex()):
        index.build(keys)
        keeper = RecallKeeper()
        assert keeper.is_due
        tuned = keeper.tune(index, near(centre, 0.1, 512, seed=1), K, TARGET)
        assert tuned is not None and tuned.reached and not keeper.is_due
        efforts = [index.effort]
        for noise in (2.0, 0.1):
            for turn in range(60):
                query = near(centre, noise, 512 if keeper.is_due else 64, seed=10 + turn)
                if keeper.is_due:
                    keeper.tune(index, query, K, TARGET)
                else:
                    keeper.keep(index, keys, query, K, TARGET)
            assert abs(recall(index, keys, near(centre, noise, 512, seed=2)) - TARGET) < 0.06
            efforts.append(index.effort)
        assert efforts[1] > 1.1 * efforts[0] and efforts[2] < 0.95 * efforts[1]


def test_it_asks_to_be_tuned_where_the_effort_has_moved_far() -> None:
    centre, keys = clustered()
    index = ClusterIndex(256, codes=None)
    index.build(keys)
    keeper = RecallKeeper()
    keeper.tune(index, near(centre, 0.1, 512, seed=1), K, TARGET)
    first = index.effort
    for turn in range(50):
        keeper.keep(index, keys, near(centre, 3.0, 64, seed=turn), K, TARGET)
        assert keeper.is_due == (keeper._effort > MOST_CHANGED * first)
    assert keeper.is_due


def test_it_looks_no_further_where_codes_lose_the_best_cells() -> None:
    centre, keys = clustered()
    index = ClusterIndex(256, rescore=K)
    index.build(0.02 * keys + torch.nn.functional.normalize(keys[:1], dim=1))
    query = near(centre, 0.1, 512, seed=1)
    keeper = RecallKeeper()
    tuned = keeper.tune(index, query, K, 0.99)
    assert tuned is not None and not tuned.reached
    for turn in range(30):
        keeper.keep(index, keys, query[turn : turn + 64], K, 0.99)
    assert index.effort <= tuned.value


def test_a_search_without_an_effort_is_left_alone() -> None:
    _, keys = clustered()
    keeper, index = RecallKeeper(), ExactIndex(keys)
    assert keeper.tune(index, keys[:5], K, TARGET) is None
    keeper.keep(index, keys, keys[:5], K, TARGET)
    assert recall(index, keys, keys[:5]) == 1.0
