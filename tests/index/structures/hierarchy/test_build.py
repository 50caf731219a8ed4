"""How many groups a build makes, and what it makes of keys that are unlike."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import clustered
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor
from torch.nn import functional as F

from hmn.index.structures.hierarchy.build import (
    bound_for,
    count_for,
    evenness,
    least_bound_for,
    parts_for,
    renew,
)
from hmn.index.structures.hierarchy.index import HierarchicalIndex


@pytest.mark.parametrize(
    ("cells", "groups"),
    [(0, 1), (1, 1), (40, 2), (1_000, 62), (10_000, 200), (400_000, 1_264), (10_000_000, 9_765)],
)
def test_groups_are_two_per_root_of_the_cells_but_neither_too_small_nor_too_large(
    cells: int, groups: int
) -> None:
    assert count_for(cells) == groups


def test_fewer_groups_are_made_where_few_keys_are_long() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(20_000, 20, generator=generator), dim=1)
    uneven = keys * torch.randn(20_000, 1, generator=generator).exp()
    assert evenness(keys, 0) == pytest.approx(1.0)
    assert evenness(1e-20 * keys, 0) == pytest.approx(1.0)
    assert evenness(torch.zeros(100, 20), 0) == evenness(keys[:0], 0) == 1.0
    length = uneven.norm(dim=1)
    share = float((length / length.quantile(0.999)).clamp(max=1).pow(4).mean()) / 0.4
    assert evenness(uneven, 0) == pytest.approx(share**2, rel=0.2)
    assert evenness(keys * torch.linspace(0.6, 1.0, 20_000).unsqueeze(1), 0) == 1.0
    groups = []
    for own in (keys, uneven):
        index = HierarchicalIndex()
        index.build(own)
        assert_sound(index)
        groups.append(len(index.groups))
    assert groups[1] < 0.4 * groups[0]


def test_a_group_may_have_three_times_the_cells_intended() -> None:
    assert bound_for(1_000, 100) == 30
    assert bound_for(1_001, 100) == 33
    assert bound_for(5, 5) == 6
    bounds = [least_bound_for(cells) for cells in (0, 40, 10_000, 10_001, 100_000_000)]
    assert bounds == [48, 48, 150, 153, 3_072]


def test_longer_keys_have_codes_of_more_parts() -> None:
    assert [parts_for(features) for features in (1, 64, 65, 160, 161)] == [16, 16, 24, 24, 32]


def blocks() -> Tensor:
    """Keys of two parts: features 0 to 39 cluster, the others do not."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(40, 40, generator=generator)
    topic = centre[torch.randint(40, (1_500,), generator=generator)]
    return torch.cat([topic, 0.7 * torch.randn(1_500, 60, generator=generator)], dim=1)


def test_directions_live_on_the_features_that_cluster() -> None:
    index = HierarchicalIndex(40)
    index.build(blocks())
    basis = index.groups.basis
    assert basis is not None and basis.dim() == 1
    assert set(basis.tolist()) <= set(range(40))
    assert index.groups.routing.features == len(basis) == index.groups.mean.shape[1]
    aside = torch.ones(100, dtype=torch.bool)
    aside[basis.long()] = False
    assert not bool(index.groups.direction[:, aside].any())
    assert_sound(index)


def test_cells_are_in_the_groups_whose_directions_on_few_features_are_nearest() -> None:
    keys = blocks()
    keys[:, :40] += 0.35 * torch.randn(1_500, 40, generator=torch.Generator().manual_seed(0))
    index = HierarchicalIndex(60)
    index.build(keys)
    assert index.groups.basis is not None
    assert float((index.groups.nearest(keys) == index.groups.group).double().mean()) > 0.96


def test_directions_live_on_principal_components_of_mixed_features() -> None:
    turned = torch.linalg.qr(torch.randn(100, 100, generator=torch.Generator().manual_seed(1))).Q
    index = HierarchicalIndex(40)
    index.build(blocks() @ turned)
    assert index.groups.basis is not None and index.groups.basis.dim() == 2
    assert_sound(index)
    index.update(torch.arange(100), blocks()[100:200] @ turned)
    index.add(torch.arange(1_500, 1_600), blocks()[:100])
    assert_sound(index)


@pytest.mark.parametrize("cells", [0, 1, 2, 17, 33])
@pytest.mark.parametrize("groups", [None, 1, 5, 100])
def test_few_cells_are_grouped_too(cells: int, groups: int | None) -> None:
    keys, _ = clustered(0, 33, 1)
    index = HierarchicalIndex(groups)
    index.build(keys[:cells].clone())
    assert_sound(index)
    assert 1 <= len(index.groups) <= max(1, cells)
    index.add(torch.arange(cells, 33), keys[cells:])
    assert_sound(index)


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
def test_keys_of_every_storage_are_filed(storage: torch.dtype) -> None:
    keys, _ = clustered(0, 500, 1)
    index = HierarchicalIndex(storage=storage)
    index.build(keys)
    index.update(torch.arange(50), keys[50:100])
    assert_sound(index)


def test_one_seed_gives_one_index() -> None:
    keys, _ = clustered(0, 2_000, 1)
    one, same, other = (HierarchicalIndex(seed=seed) for seed in (1, 1, 2))
    for index in (one, same, other):
        index.build(keys.clone())
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert not torch.equal(one.groups.group, other.groups.group)


def test_large_groups_are_split() -> None:
    keys = torch.cat([torch.eye(8).repeat(2, 1), torch.ones(3_000, 8)])
    keys += 0.01 * torch.randn(3_016, 8, generator=torch.Generator().manual_seed(0))
    index = HierarchicalIndex(60)
    index.build(keys)
    assert_sound(index)


def test_on_progress_is_called_after_each_step() -> None:
    progress = []
    index = HierarchicalIndex(on_progress=lambda done, steps: progress.append((done, steps)))
    index.build(clustered(0, 100, 1)[0])
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_codes_and_directions_are_fitted_to_the_cells_as_they_are_now() -> None:
    index = HierarchicalIndex(40)
    index.build(blocks())
    groups = index.groups
    before, group = groups.short.centroid.clone(), groups.group.clone()
    groups.rows.keys.copy_(blocks().flip(1))
    renew(groups)
    assert_sound(index)
    assert torch.equal(groups.group, group)
    assert not torch.equal(groups.short.centroid, before)
    assert groups.basis is not None and set(groups.basis.tolist()) <= set(range(60, 100))
