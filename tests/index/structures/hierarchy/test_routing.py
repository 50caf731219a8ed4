"""The group that a vector is filed in, and the vectors that are learned from queries."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import clustered

from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.routing import fit_vectors, nearest


def test_the_nearest_group_is_that_of_largest_cosine_however_long_means_are() -> None:
    keys, query = clustered(0, 1_200, 300)
    index = HierarchicalIndex("8x80", codes="int8")
    index.build(keys)
    first, last = index.tree.tiers
    generator = torch.Generator().manual_seed(0)
    for tier in (first, last):
        live = tier.live()
        length = 10.0 ** (4 * torch.rand(len(live), 1, generator=generator) - 2)
        tier.set_means(live, tier.mean[live] * length)
    index.tree.write_codes()
    for tiers, agreed in ([first], 1.0), ([first, last], 0.97):
        live = tiers[-1].live()
        mean = tiers[-1].mean[live].double()
        best = live[(query.double() @ (mean / mean.norm(dim=1, keepdim=True)).T).argmax(dim=1)]
        assert float((nearest(tiers, query) == best).double().mean()) >= agreed


@pytest.mark.parametrize("queries", [0, 9])
def test_too_few_queries_teach_nothing(queries: int) -> None:
    vector, query = torch.randn(20, 8), torch.randn(queries, 8)
    group = torch.zeros(queries, dtype=torch.int64)
    assert fit_vectors(vector, query, group, torch.Generator()) is vector


def test_vectors_learn_which_group_a_query_belongs_to() -> None:
    generator = torch.Generator().manual_seed(0)
    vector, query = torch.randn(20, 8, generator=generator), torch.randn(2_000, 8, generator=generator)
    group = (query @ torch.randn(8, 20, generator=generator)).argmax(dim=1)
    fitted = fit_vectors(vector, query, group, generator)
    before, after = ((query @ each.T).argmax(dim=1).eq(group).double().mean() for each in (vector, fitted))
    assert float(after) > float(before)


def test_vectors_are_kept_where_queries_that_were_held_out_do_not_gain() -> None:
    kept = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        vector, query = torch.randn(20, 8, generator=generator), torch.randn(40, 8, generator=generator)
        noise = torch.randint(20, (40,), generator=generator)
        kept += fit_vectors(vector, query, noise, generator) is vector
    assert 2 <= kept <= 18
