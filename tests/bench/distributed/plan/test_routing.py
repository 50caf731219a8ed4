"""Routing to some shards: the router and the shards it fills."""

from __future__ import annotations

import pytest
import torch
from bench.distributed.plan.routing import balanced, directions, needed, route


def test_a_query_asks_the_shard_of_its_best_part_first() -> None:
    keys = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    shard, part = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 2])
    direction, owner = directions(keys, shard, part)
    # the mean length of keys of 1 and 3, weighted by their lengths
    assert direction.tolist() == [[2.5, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    assert owner.tolist() == [0, 1, 2]
    assert route(torch.tensor([[-1.0, 0.2], [1.0, 0.9]]), direction, owner, 3).tolist() == [
        [2, 1, 0],
        [0, 1, 2],
    ]


def test_shards_are_filled_about_equally_and_with_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.eye(4).repeat_interleave(8, dim=0)
    centroid = torch.nn.functional.normalize(centre + 0.1 * torch.randn(32, 4, generator=generator), dim=1)
    group = balanced(centroid, torch.full((32,), 10), 4, generator)
    assert torch.bincount(group, minlength=4).tolist() == [8, 8, 8, 8]
    assert all(len(set(part.tolist())) == 1 for part in group.split(8))
    uneven = balanced(centroid, torch.tensor([100, 1] * 16), 4, generator)
    sizes = torch.zeros(4).index_add_(0, uneven, torch.tensor([100.0, 1.0] * 16))
    assert float(sizes.max()) <= 1.1 * float(sizes.mean())


@pytest.mark.parametrize(("recall", "count"), [(0.5, 1), (0.75, 2), (0.9, 3)])
def test_the_number_of_shards_for_a_recall(recall: float, count: int) -> None:
    assert needed({"recall": [0.5, 0.8, 1.0]}, recall) == count
