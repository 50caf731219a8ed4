from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.cluster import ClusterIndex
from hmn.index.exact import ExactIndex
from hmn.index.tune import recall_at_k, tune
from hmn.typing import SearchResult


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(60, 16, generator=generator)
    keys = center[torch.randint(60, (3000,), generator=generator)] + 0.6 * torch.randn(
        3000, 16, generator=generator
    )
    return keys, keys[:300] + 0.3 * torch.randn(300, 16, generator=generator)


def true_recall(index: ClusterIndex, keys: Tensor, query: Tensor, k: int) -> float:
    best = (query.double() @ keys.double().T).topk(k, dim=1).indices
    found = index.search(query, k).cell
    return float((found.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double().mean())


@pytest.mark.parametrize("num_clusters", [50, (8, 64)])
def test_it_finds_the_fewest_probes_that_reach_the_recall(
    data: tuple[Tensor, Tensor], num_clusters: int | tuple[int, ...]
) -> None:
    keys, query = data
    index = ClusterIndex(num_clusters, 1 if isinstance(num_clusters, int) else (1, 1), codes="int8")
    index.build(keys)
    found = tune(index, query, 10, target_recall=0.9)
    assert found.reached
    assert found.recall == pytest.approx(true_recall(index, keys, query, 10), abs=1e-9)
    assert found.recall >= 0.9
    index.last_probes = found.value - 1
    assert true_recall(index, keys, query, 10) < 0.9


def test_it_spends_the_reads_that_are_wanted(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = ClusterIndex(100, codes=None)
    index.build(keys)
    for wanted in (300, 600, 1200):
        found = tune(index, query, 10, target_reads=wanted)
        assert found.reached
        assert float(index.search(query, 10).reads.mean()) == pytest.approx(wanted, rel=0.1)


def test_what_cannot_be_reached_is_told(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = ClusterIndex(10, codes=None)
    index.build(keys)
    few = tune(index, query, 10, target_reads=1)
    assert not few.reached
    assert few.value == 1
    many = tune(index, query, 10, target_reads=1e9)
    assert not many.reached
    assert many.value == 10


def test_recall_counts_equal_scores_whichever_cell_has_them() -> None:
    keys = torch.tensor([[1.0], [1.0], [0.5], [0.1]])
    exact = ExactIndex(keys).search(torch.ones(1, 1), 2)
    other = SearchResult(torch.tensor([[1.0, 0.5]]), torch.tensor([[0, 2]]), exact.reads, exact.cells_scored)
    assert recall_at_k(exact, exact) == 1.0
    assert recall_at_k(other, exact) == 0.5
    none = SearchResult(
        torch.full((1, 2), -torch.inf), torch.full((1, 2), -1), exact.reads, exact.cells_scored
    )
    assert recall_at_k(none, exact) == 0.0
    empty = ExactIndex(torch.zeros(0, 1)).search(torch.ones(3, 1), 2)
    assert recall_at_k(empty, empty) == 1.0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "only one"),
        ({"target_recall": 0.9, "target_reads": 5.0}, "only one"),
        ({"target_recall": 0.0}, "above 0"),
        ({"target_recall": 1.1}, "at most 1"),
        ({"target_reads": 0.0}, "more than 0"),
    ],
)
def test_bad_targets_are_refused(
    data: tuple[Tensor, Tensor], targets: dict[str, float], message: str
) -> None:
    index = ClusterIndex(10)
    index.build(data[0])
    with pytest.raises(ConfigError, match=message):
        tune(index, data[1], 10, **targets)
    with pytest.raises(ConfigError, match="no queries"):
        tune(index, data[1][:0], 10, target_recall=0.5)
