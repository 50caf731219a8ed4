"""Directions on few features: which are chosen, and what they keep."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.index.structures.hierarchy.directions import (
    MOST_FEATURES,
    choose_basis,
    from_basis,
    on_basis,
    unit_means,
)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_means_are_of_keys_of_length_one() -> None:
    keys = normal(70_000, 3) * torch.logspace(-3, 3, 70_000).unsqueeze(1)
    rows, group = torch.arange(69_999, -1, -1)[:69_000], torch.arange(69_000) % 4
    wanted = unit(torch.stack([unit(keys[rows[group == each]].double()).sum(dim=0) for each in range(4)]))
    got = unit_means(keys, rows, group, 5)
    torch.testing.assert_close(got[:4].double(), wanted, rtol=1e-3, atol=1e-5)
    assert got[4].tolist() == [0.0, 0.0, 0.0]


def test_all_features_are_taken_where_there_are_few_or_all_of_them_count() -> None:
    assert choose_basis(unit(normal(100, MOST_FEATURES)), torch.ones(100)) is None
    assert choose_basis(unit(normal(400, 200)), torch.ones(400)) is None
    assert choose_basis(unit(normal(1, 200)), torch.ones(1)) is None


def test_features_that_tell_directions_apart_are_taken_as_they_are() -> None:
    direction = 0.01 * normal(300, 100)
    direction[:, [5, 50, 99]] += normal(300, 3)
    direction[:, 70] += 3.0  # the same in all of them
    basis = choose_basis(direction, torch.ones(300))
    assert basis is not None and basis.dtype == torch.int32
    assert basis.tolist() == [5, 50, 99]


def test_features_count_by_the_cells_that_they_tell_apart() -> None:
    direction = torch.zeros(200, 100)
    direction[:100, :50] = torch.eye(50).repeat(2, 1)
    direction[100:, 50:] = torch.eye(50).repeat(2, 1)
    weight = torch.cat([torch.ones(100), torch.full((100,), 1e-6)])
    basis = choose_basis(direction, weight)
    assert basis is not None
    assert 45 < len(basis) <= 51
    assert int((basis < 50).sum()) >= 48


def test_principal_components_are_taken_where_features_are_mixed() -> None:
    turned = torch.linalg.qr(normal(100, 100)).Q
    inside = torch.cat([normal(300, 8), torch.full((300, 1), 4.0)], dim=1)
    direction = unit(inside @ turned[:9])
    basis = choose_basis(direction, torch.ones(300))
    assert basis is not None and basis.shape[1] == 100 and basis.dtype == torch.float32
    assert len(basis) <= 9
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), atol=1e-5, rtol=0.0)
    kept = from_basis(on_basis(direction, basis), basis, 100)
    left = (direction - kept).square().sum() / (direction - direction.mean(dim=0)).square().sum()
    assert 0 <= float(left) < 0.03


def test_principal_components_of_more_features_than_directions() -> None:
    few = unit(normal(20, 3000))
    basis = choose_basis(few, torch.ones(20))
    assert basis is not None and basis.shape == (min(20, len(basis)), 3000)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), atol=1e-4, rtol=0.0)
    kept = from_basis(on_basis(few, basis), basis, 3000)
    assert float((few - kept).square().sum() / few.square().sum()) < 0.03


def test_coordinates_lead_back_to_vectors() -> None:
    vectors = normal(5, 70)
    assert on_basis(vectors, None) is vectors and from_basis(vectors, None, 70) is vectors
    chosen = torch.tensor([3, 64], dtype=torch.int32)
    assert torch.equal(on_basis(vectors, chosen), vectors[:, [3, 64]])
    back = from_basis(vectors[:, [3, 64]], chosen, 70)
    assert torch.equal(back[:, [3, 64]], vectors[:, [3, 64]])
    assert int((back != 0).sum()) == 10
    rows = torch.linalg.qr(normal(70, 70)).Q[:6]
    torch.testing.assert_close(on_basis(from_basis(vectors[:, :6], rows, 70), rows), vectors[:, :6])
