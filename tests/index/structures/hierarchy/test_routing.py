"""The group that a vector is filed in, and the vectors that are learned from queries."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import clustered

from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.structures.hierarchy.routing import fit_vectors, nearest


def test_the_nearest_group_is_that_of_largest_cosine_however_long_means_are() -> None:
    keys, query = clustered(0, 600, 300)
    index = HierarchicalIndex("8x40", codes="int8")
    index.build(keys)
    first, last = index.tree.tiers
    for tier in (first, last):
        tier.set_means(tier.live(), tier.mean[tier.live()] * (0.1 + 5 * torch.rand(len(tier), 1)))
    index.tree.write_codes()
    for tiers, agreed in ([first], 1.0), ([first, last], 0.95):
        live = tiers[-1].live()
        mean = tiers[-1].mean[live].double()
        best = live[(query.double() @ (mean / mean.norm(dim=1, keepdim=True)).T).argmax(dim=1)]
        assert float((nearest(tiers, query) == best).double().mean()) >= agreed


@pytest.mark.parametrize("queries", [0, 9, 2_000])
def test_vectors_are_kept_unless_held_out_queries_gain(queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(20, 8, generator=generator)
    query = torch.randn(queries, 8, generator=generator)
    noise = torch.randint(20, (queries,), generator=generator)  # nothing to learn
    kept = fit_vectors(vector, query, noise, torch.Generator().manual_seed(0))
    if queries < 10:
        assert kept is vector
    right = (query @ torch.randn(8, 20, generator=generator)).argmax(dim=1)
    fitted = fit_vectors(vector, query, right, torch.Generator().manual_seed(0))
    assert (fitted is vector) == (queries < 10)
    if queries:
        before, after = (
            (query @ each.T).argmax(dim=1).eq(right).double().mean() for each in (vector, fitted)
        )
        assert float(after) >= float(before)
