"""Buckets are those of the paper's definition, written as a loop, and keep up with the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.reference import clustered, recall, whole
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.clustering.reduction import OneColumnReduction, PaperReduction, Reduction
from hmn.index.structures import wta_hash
from hmn.index.structures.wta_hash import WTAHashIndex

Bucket = tuple[int, ...]


@contextmanager
def buckets_only() -> Iterator[None]:
    """Queries whose buckets hold too few cells get no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wta_hash, "filled", lambda result, *_: result)
        yield


def order_of(index: WTAHashIndex) -> list[list[list[int]]]:
    """Features that each table looks at, in each of its orders."""
    seen: list[list[list[int]]] = index.state_dict()["wta.seen"].tolist()
    return seen


def bucket(vector: list[float], orders: list[list[int]]) -> Bucket:
    """The paper's hash: in each order, the place of the largest of the features looked at."""
    seen = [[vector[feature] for feature in order] for order in orders]
    return tuple(values.index(max(values)) for values in seen)


def probed(vector: list[float], orders: list[list[int]], num_probes: int) -> list[Bucket]:
    """The bucket, then those with one place replaced by the second largest's, smallest gap first."""
    own, swaps = bucket(vector, orders), []
    for number, order in enumerate(orders):
        values = [vector[feature] for feature in order]
        rest = [(value, -place) for place, value in enumerate(values) if place != own[number]]
        value, place = max(rest)
        swaps.append((values[own[number]] - value, number, -place))
    others = [(*own[:number], place, *own[number + 1 :]) for _, number, place in sorted(swaps)]
    return [own, *others][:num_probes]


def expected(
    keys: Tensor, query: list[float], num_probes: int, tables: list[list[list[int]]]
) -> Counter[int]:
    """In how many tables each cell shares a bucket with the query."""
    shared: Counter[int] = Counter()
    for orders in tables:
        buckets = probed(query, orders, num_probes)
        shared.update(cell for cell, key in enumerate(keys.tolist()) if bucket(key, orders) in buckets)
    return shared


@settings(max_examples=40, deadline=None)
@given(
    tables=st.integers(1, 4),
    p=st.integers(1, 4),
    prefix=st.integers(2, 5),
    probes=st.integers(1, 5),
    whole_numbers=st.booleans(),
    seed=st.integers(0, 99),
)
def test_scores_the_cells_that_share_a_bucket(
    tables: int, p: int, prefix: int, probes: int, whole_numbers: bool, seed: int
) -> None:
    probes = min(probes, 1 + p)
    keys, query = whole(seed, 60, 6), whole(seed + 1, 4, 6)
    if not whole_numbers:
        keys, query = (part + torch.rand(part.shape) / 8 for part in (keys, query))
    index = WTAHashIndex(tables, p, prefix, probes, seed=seed)
    index.build(keys)
    with buckets_only():
        result = index.search(query, 60)
    orders = order_of(index)
    for row in range(4):
        shared = expected(keys, query[row].tolist(), probes, orders)
        assert sorted(cell for cell in result.cell[row].tolist() if cell >= 0) == sorted(shared)
        assert int(result.cells_scored[row]) == len(shared)
        listed = sum(shared.values())
        cost = 4 * tables * p * prefix + tables * probes * 24 + 4 * listed + 24 * len(shared)
        assert float(result.reads[row]) == pytest.approx(cost / 24)


def test_each_table_draws_its_own_orders() -> None:
    index = WTAHashIndex(6, 5, 10)
    index.build(torch.zeros(2, 12))
    orders = [tuple(order) for table in order_of(index) for order in table]
    assert all(len(set(order)) == 10 and set(order) <= set(range(12)) for order in orders)
    assert len(set(orders)) == 30
    other = WTAHashIndex(6, 5, 10, seed=1)
    other.build(torch.zeros(2, 12))
    assert order_of(other) != order_of(index)


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_with_too_many_candidates_those_in_most_buckets_stay(limit: int) -> None:
    keys, query = whole(0, 200, 8), whole(1, 5, 8)
    index = WTAHashIndex(10, 2, 4, 2, max_candidates=limit)
    index.build(keys)
    with buckets_only():
        result = index.search(query, limit)
    for row in range(5):
        shared = expected(keys, query[row].tolist(), 2, order_of(index))
        kept = [cell for cell in result.cell[row].tolist() if cell >= 0]
        assert len(kept) == min(limit, len(shared)) == int(result.cells_scored[row])
        assert sorted(shared[cell] for cell in kept) == sorted(sorted(shared.values())[-limit:])


def test_a_query_whose_buckets_are_empty_searches_all_cells() -> None:
    index = WTAHashIndex(4, 2, 4)
    index.build(torch.arange(4.0).expand(9, 4) * torch.arange(1.0, 10.0).unsqueeze(1))
    query = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    with buckets_only():
        first = index.search(query, 3)
    assert first.cell.tolist() == [[-1] * 3] and first.score.tolist() == [[-torch.inf] * 3]
    assert int(first.cells_scored) == 0 and float(first.reads) > 0
    result = index.search(query, 3)
    assert result.cell.tolist() == [[8, 7, 6]]
    assert int(result.cells_scored) == 9 and float(result.reads) == float(first.reads) + 9


def test_no_fewer_cells_are_scored_than_are_asked_for() -> None:
    keys, query = whole(0, 200, 8), whole(1, 5, 8)
    index = WTAHashIndex(10, 2, 4, 2, max_candidates=3)
    index.build(keys)
    with buckets_only():
        assert index.search(query, 9).cells_scored.tolist() == [9] * 5


def test_the_length_of_a_vector_does_not_change_its_bucket() -> None:
    keys, query = clustered(0, 500, 5)
    index = WTAHashIndex(4, 3, 8)
    index.build(keys * torch.logspace(-5, 5, 500).unsqueeze(1))
    scored = index.search(query, 5).cells_scored
    index.build(keys)
    assert torch.equal(index.search(query * 1e-6, 5).cells_scored, scored)
    assert scored.sum() > 0


def test_an_updated_cell_is_found_in_its_new_bucket_only(monkeypatch: pytest.MonkeyPatch) -> None:
    up, down = torch.arange(6.0), -torch.arange(6.0)
    index = WTAHashIndex(3, 2, 6)
    index.build(torch.stack([up, up, down]))
    index.update(torch.tensor([0]), down.unsqueeze(0))
    query = torch.stack([up, down])
    monkeypatch.setattr(wta_hash, "filled", lambda result, *_: result)
    assert [set(line) for line in index.search(query, 3).cell.tolist()] == [{1, -1}, {0, 2, -1}]
    index.remove(torch.tensor([2]))
    index.add(torch.tensor([9]), up.unsqueeze(0))
    assert [set(line) for line in index.search(query, 3).cell.tolist()] == [{1, 9, -1}, {0, -1}]


def test_more_tables_and_probes_find_more() -> None:
    keys, query = clustered(0, 3000, 100)
    recalls = []
    for tables, probes in ((2, 1), (2, 4), (8, 4)):
        index = WTAHashIndex(tables, 3, 16, probes)
        index.build(keys)
        recalls.append(recall(index.search(query, 10), query, keys, 10))
    assert recalls[0] + 0.05 < recalls[1] and recalls[1] + 0.05 < recalls[2]


@pytest.mark.parametrize("reduction", [PaperReduction(), OneColumnReduction()])
def test_reduced_keys_are_filed(reduction: Reduction) -> None:
    keys, query = whole(0, 40, 6), whole(1, 3, 6)
    index = WTAHashIndex(2, 2, 4, reduction=reduction)
    index.build(keys)
    reduction.fit(keys)
    p, q = reduction.keys(keys), reduction.queries(query)
    with buckets_only():
        result = index.search(query, 40)
    for row in range(3):
        shared = expected(p, q[row].tolist(), 1, order_of(index))
        assert {cell for cell in result.cell[row].tolist() if cell >= 0} == set(shared)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"num_tables": 0}, "num_tables is 0"),
        ({"num_permutations": 1.5}, "num_permutations is 1.5"),
        ({"prefix": True}, "prefix is True"),
        ({"num_probes": 6}, "num_probes is 6, expected at most 5"),
        ({"num_probes": 2, "prefix": 1}, "num_probes is 2, expected at most 1"),
        ({"max_candidates": 0}, "max_candidates is 0"),
        ({"num_permutations": 20}, "take 63 bits, expected at most 62"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(bad: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WTAHashIndex(**bad)


def test_the_largest_settings_that_fit_in_62_bits_work() -> None:
    index = WTAHashIndex(4, 20, 8, 21)  # 4 * 8^20 = 2^62
    keys = torch.eye(9)
    index.build(keys)
    assert index.search(keys, 1).cell.squeeze(1).tolist() == list(range(9))
    with pytest.raises(ConfigError, match="64 bits"):
        WTAHashIndex(9, 20, 8)


def test_prefix_cannot_exceed_the_features() -> None:
    index = WTAHashIndex(prefix=8)
    with pytest.raises(ConfigError, match="prefix is 8 but the keys have 5 features"):
        index.build(torch.zeros(3, 5))
    assert len(index) == 0


def test_num_probes_may_be_set_between_searches() -> None:
    keys, query = clustered(0, 500, 20)
    index = WTAHashIndex(4, 3, 8)
    index.build(keys)
    with buckets_only():
        few = index.search(query, 5).cells_scored
        index.num_probes = 3
        assert bool((index.search(query, 5).cells_scored >= few).all())
    index.num_probes = 9
    with pytest.raises(ConfigError, match="num_probes is 9"):
        index.search(query, 5)


def test_stats_give_settings_and_buckets() -> None:
    index = WTAHashIndex(2, 1, 3)
    index.build(whole(0, 50, 4))
    stats = index.stats()
    assert stats["structure"] == "wta-hash" and stats["cells"] == 50 and stats["num_tables"] == 2
    assert stats["buckets"] == 6 and 50 / 3 <= stats["largest_bucket"] <= 50
    assert stats["mean_bucket"] == pytest.approx(100 / 6, abs=0.01)


def test_a_row_without_a_cell_is_in_no_bucket_whatever_the_state_says() -> None:
    index = WTAHashIndex(2, 1, 3)
    index.build(torch.ones(5, 4))
    index.remove(torch.tensor([2]))
    state = index.state_dict()
    state["wta.code"] = state["wta.code"][:1].repeat(5, 1)
    index.load_state_dict(state)
    result = index.search(torch.ones(1, 4), 5)
    assert sorted(result.cell[0].tolist()) == [-1, 0, 1, 3, 4] and int(result.cells_scored) == 4
