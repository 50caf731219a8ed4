"""The tree is balanced, splits along principal components, and visits the leaves of smallest margin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.reference import clustered, recall, whole
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.clustering.reduction import NoReduction, OneColumnReduction, PaperReduction
from hmn.index.structures.pca_tree import PCATreeIndex, grow, nearest_leaves

quick = settings(max_examples=60, deadline=None)


def margins(projection: list[float], threshold: list[float], depth: int) -> list[float]:
    """Margin of every leaf: squared distances to the planes that the query is on the other side of."""
    by_leaf = []
    for leaf in range(1 << depth):
        margin = 0.0
        for level in range(depth):
            node = leaf >> (depth - level)
            goes_right = leaf >> (depth - level - 1) & 1
            offset = projection[level] - threshold[(1 << level) - 1 + node]
            margin += offset**2 if (offset >= 0) != goes_right else 0.0
        by_leaf.append(margin)
    return by_leaf


@quick
@given(depth=st.integers(0, 6), count=st.integers(1, 70), ties=st.booleans(), seed=st.integers(0, 999))
def test_the_leaves_of_smallest_margin_are_visited_in_order(
    depth: int, count: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(3, depth, generator=generator, dtype=torch.float64)
    threshold = torch.randn((1 << depth) - 1, generator=generator, dtype=torch.float64)
    if ties:
        projection, threshold = projection.round(), threshold.round()
    leaves = nearest_leaves(projection, threshold, count)
    assert leaves.shape == (3, min(count, 1 << depth))
    for row in range(3):
        every = margins(projection[row].tolist(), threshold.tolist(), depth)
        visited = leaves[row].tolist()
        assert len(set(visited)) == len(visited)
        np.testing.assert_allclose([every[leaf] for leaf in visited], sorted(every)[:count], atol=1e-12)


@quick
@given(n=st.integers(1, 70), depth=st.integers(0, 6), ties=st.booleans(), seed=st.integers(0, 999))
def test_splits_in_halves_at_the_median(n: int, depth: int, ties: bool, seed: int) -> None:
    projection = torch.randn(n, depth, generator=torch.Generator().manual_seed(seed))
    projection = projection.round() if ties else projection
    threshold, leaf = grow(projection)
    assert threshold.shape == ((1 << depth) - 1,) and leaf.shape == (n,)
    for level in range(depth):
        node, side = leaf >> (depth - level), leaf >> (depth - level - 1) & 1
        for each in range(1 << level):
            here = projection[node == each, level].double()
            right = side[node == each] == 1
            assert int(right.sum()) - int((~right).sum()) in (0, 1)
            if len(here):
                middle = float(threshold[(1 << level) - 1 + each])
                assert bool((here[right] >= middle - 1e-6).all())
                assert bool((here[~right] <= middle + 1e-6).all())
            if len(here) > 1:
                assert middle == pytest.approx(float(np.median(here)) if len(here) % 2 == 0 else middle)
    if n and not ties:
        assert torch.equal(nearest_leaves(projection, threshold, 1).squeeze(1), leaf)


@pytest.mark.parametrize(
    "reduction", [None, NoReduction(), PaperReduction()], ids=["one-column", "none", "paper"]
)
def test_components_are_the_principal_ones(reduction: NoReduction | PaperReduction | None) -> None:
    keys = clustered(0, 400, 1, features=6)[0] * torch.tensor([9.0, 4.0, 1.0, 1.0, 0.5, 0.2])
    index = PCATreeIndex(leaf_size=100, reduction=reduction)
    index.build(keys)
    used = OneColumnReduction() if reduction is None else reduction
    used.fit(keys)
    reduced = used.keys(keys).double().numpy()
    wanted = np.linalg.svd(reduced - reduced.mean(axis=0), full_matrices=False)[2][:2]
    result = index.state_dict()["tree.component"].double().numpy()
    assert result.shape == wanted.shape
    np.testing.assert_allclose(np.abs((result * wanted).sum(axis=1)), 1, atol=1e-5)
    assert index.stats()["reduction"] == used.name


@pytest.mark.parametrize(("n", "leaf_size", "depth"), [(64, 64, 0), (65, 64, 1), (1000, 10, 7), (5, 1, 3)])
def test_leaves_are_no_larger_than_asked(n: int, leaf_size: int, depth: int) -> None:
    index = PCATreeIndex(leaf_size)
    index.build(whole(0, n, 20))
    stats = index.stats()
    assert stats["depth"] == depth and stats["leaves"] == 1 << depth
    assert n / (1 << depth) <= stats["largest_leaf"] <= leaf_size


def test_equal_keys_are_shared_out_evenly() -> None:
    index = PCATreeIndex(4)
    index.build(torch.ones(100, 8))
    assert index.stats()["largest_leaf"] == 4
    assert int(index.search(torch.ones(1, 8), 3).cells_scored) in (3, 4)


def test_there_are_no_more_levels_than_features() -> None:
    index = PCATreeIndex(1, reduction=NoReduction())
    index.build(whole(0, 200, 3))
    assert index.stats()["depth"] == 3 and index.stats()["largest_leaf"] == 25


def test_each_cell_is_in_the_leaf_to_which_its_key_descends() -> None:
    keys = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    index = PCATreeIndex(16)
    index.build(keys)
    before = index.state_dict()["tree.leaf"].clone()
    index.update(torch.arange(500), keys.clone())
    # a key at a distance of rounding from the plane may cross it
    assert int((index.state_dict()["tree.leaf"] != before).sum()) <= 1
    index.update(torch.arange(500), keys.flip(0))
    assert int((index.state_dict()["tree.leaf"] != before.flip(0)).sum()) <= 1


def test_added_cells_crowd_a_leaf_and_stats_say_so() -> None:
    keys = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    index = PCATreeIndex(16)
    index.build(keys)
    index.add(torch.arange(1000, 1300), keys[:1].expand(300, 8))
    assert index.stats()["largest_leaf"] >= 300


def test_more_leaves_find_more_and_all_find_everything() -> None:
    keys, query = clustered(0, 2000, 100)
    index = PCATreeIndex(16)
    index.build(keys)
    recalls = []
    for index.num_leaves in (1, 4, 16, 128):
        recalls.append(recall(index.search(query, 10), query, keys, 10))
    assert recalls == sorted(recalls) and recalls[0] < recalls[2] - 0.2 and recalls[3] == 1


def test_the_length_of_a_query_does_not_matter() -> None:
    keys, query = clustered(0, 2000, 50)
    index = PCATreeIndex(16, 4)
    index.build(keys)
    wanted = index.search(query, 5).cell
    for scale in (2.0**-20, 2.0**20):
        assert torch.equal(index.search(query * scale, 5).cell, wanted)


@pytest.mark.parametrize("size", [1e-30, 1e17])
def test_tiny_and_huge_keys_are_split_too(size: float) -> None:
    keys, query = clustered(0, 500, 20)
    wanted, index = PCATreeIndex(16, 4), PCATreeIndex(16, 4)
    wanted.build(keys)
    index.build(keys * size)
    share = (index.state_dict()["tree.leaf"] == wanted.state_dict()["tree.leaf"]).float().mean()
    assert float(share) > 0.97
    assert bool(torch.isfinite(index.search(query, 5).score).all())


def test_counts_what_it_reads() -> None:
    keys, query = whole(0, 256, 8), whole(1, 4, 8)
    index = PCATreeIndex(16, 3)
    index.build(keys)
    result = index.search(query, 5)
    sizes = torch.bincount(index.state_dict()["tree.leaf"])
    assert sizes.tolist() == [16] * 16
    # mean and four components of 9 entries, 1 + 2 + 3 + 3 thresholds, three leaves of 16 rows
    cost = 4 * 5 * 9 + 4 * 9 + 3 * 24 + 48 * 4 + 48 * 32
    assert result.reads.tolist() == pytest.approx([cost / 32] * 4)
    assert result.cells_scored.tolist() == [48] * 4


@pytest.mark.parametrize("bad", [{"leaf_size": 0}, {"num_leaves": 0}, {"leaf_size": 2.0}, {"seed": "x"}])
def test_bad_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PCATreeIndex(**bad)


def test_an_empty_tree_takes_cells() -> None:
    index = PCATreeIndex(4)
    index.build(torch.empty(0, 3))
    keys: Tensor = torch.eye(3)
    index.add(torch.arange(3), keys)
    assert index.search(keys, 1).cell.squeeze(1).tolist() == [0, 1, 2]
    assert index.stats()["depth"] == 0


def test_a_row_without_a_cell_is_in_no_leaf_whatever_the_state_says() -> None:
    index = PCATreeIndex()
    index.build(torch.ones(5, 4))
    index.remove(torch.tensor([2]))
    index.load_state_dict({**index.state_dict(), "tree.leaf": torch.zeros(5, dtype=torch.int64)})
    result = index.search(torch.ones(1, 4), 5)
    assert sorted(result.cell[0].tolist()) == [-1, 0, 1, 3, 4] and int(result.cells_scored) == 4
