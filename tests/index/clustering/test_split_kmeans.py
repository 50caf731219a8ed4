"""Parts are divided together in batches that memory allows, with the same result as one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hmn.index.clustering import split_kmeans
from hmn.index.clustering.split_kmeans import divide


def parts_of_many_sizes() -> tuple[Tensor, Tensor, Tensor]:
    """Points ``(N, D)``, the part ``(N,)`` of each, and the pieces ``(P,)`` of each part."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([40, 3, 0, 17, 90, 1, 64, 5, 33, 40])
    pieces = torch.tensor([9, 3, 1, 2, 9, 1, 30, 5, 1, 3])
    part = torch.repeat_interleave(torch.arange(len(size)), size)
    part = part[torch.randperm(len(part), generator=generator)]
    return torch.randn(len(part), 6, generator=generator), part, pieces


def divided() -> Tensor:
    points, part, pieces = parts_of_many_sizes()
    return divide(points, part, pieces, generator=torch.Generator().manual_seed(1), rounds=4)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Parts, points per part with padding, and most pieces of a part, for each batch."""
    seen: list[tuple[int, int, int]] = []
    inner = split_kmeans._pieces

    def noted(unit: Tensor, held: Tensor, pieces: Tensor, rounds: int) -> Tensor:
        seen.append((*held.shape, int(pieces.max())))
        return inner(unit, held, pieces, rounds)

    monkeypatch.setattr(split_kmeans, "_pieces", noted)
    return seen


@pytest.mark.parametrize(("name", "most"), [("POINTS_AT_A_TIME", 130), ("COSINES_AT_A_TIME", 600)])
def test_parts_are_divided_in_batches_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, batches: list[tuple[int, int, int]], name: str, most: int
) -> None:
    together = divided()
    assert batches == [(7, 90, 30)]  # parts of one piece need no k-means
    batches.clear()
    monkeypatch.setattr(split_kmeans, name, most)
    assert torch.equal(divided(), together)
    assert 1 < len(batches) < 7
    for parts, points, pieces in batches:
        work = parts * points * (1 if name == "POINTS_AT_A_TIME" else pieces)
        assert work <= most or parts == 1
    batches.clear()
    monkeypatch.setattr(split_kmeans, name, 1)
    assert torch.equal(divided(), together)
    assert batches == [(1, 3, 3), (1, 5, 5), (1, 17, 2), (1, 40, 9), (1, 40, 3), (1, 64, 30), (1, 90, 9)]


def test_a_batch_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(unit: Tensor, held: Tensor, pieces: Tensor, rounds: int) -> Tensor:  # noqa: ARG001
        seen.append((held.numel(), held.numel() * int(pieces.max())))
        return torch.zeros_like(held, dtype=torch.int64)

    monkeypatch.setattr(split_kmeans, "_pieces", noted)
    part = torch.arange(400_000) % 400
    for pieces in (2, 100):
        every = torch.full((400,), pieces)
        divide(torch.ones(len(part), 1), part, every, generator=torch.Generator(), rounds=1)
    points, cosines = (max(numbers) for numbers in zip(*seen, strict=True))
    assert points <= 1 << 18 and cosines <= 1 << 24  # 64 MiB of float32
    assert len(seen) == 2 + 3  # no more batches than that takes


def test_pieces_are_numbered_part_by_part_and_only_direction_counts() -> None:
    points, part, pieces = parts_of_many_sizes()
    end = pieces.cumsum(0)
    piece = divided()
    assert bool(((piece < end[part]) & (piece >= (end - pieces)[part])).all())
    scaled = points * 2.0 ** (torch.arange(len(points)) % 5).unsqueeze(1)
    again = divide(scaled, part, pieces, generator=torch.Generator().manual_seed(1), rounds=4)
    assert torch.equal(again, piece)


def test_a_part_is_divided_as_if_it_were_alone_whatever_it_is_padded_with() -> None:
    generator = torch.Generator().manual_seed(0)
    size, pieces = torch.tensor([9, 30]), torch.tensor([2, 7])
    held = torch.arange(30) < size.unsqueeze(1)
    unit = F.normalize(torch.randn(2, 30, 8, generator=generator), dim=2)
    both = split_kmeans._pieces(unit, held, pieces, 4)
    for number in (0, 1):
        own = size[number]
        # Lloyd's algorithm on the sphere in float64, from the same centres
        points = unit[number, :own].double()
        center = points[: pieces[number]]
        for _ in range(4):
            nearest = (points @ center.T).argmax(dim=1)
            assert len(nearest.unique()) == len(center)  # no piece is empty, which would start again
            center = F.normalize(torch.zeros_like(center).index_add_(0, nearest, points), dim=1)
        assert torch.equal(both[number, :own], (points @ center.T).argmax(dim=1))


def test_a_piece_that_loses_all_points_starts_again_at_one_that_fits_worst_and_not_at_padding() -> None:
    # The first centre goes to 24 degrees, between its points at 0 and 48. The others come nearer to both.
    degrees = [0.0, -27.0, 98.0, 48.0, -14.0, -14.1, -14.2, 50.0, 50.1, 50.2, 50.3]
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    unit = torch.zeros(2, 40, 2, dtype=torch.float64)
    unit[0, : len(angle)] = torch.stack([angle.cos(), angle.sin()], dim=1)
    unit[1] = F.normalize(
        torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
    )
    held = torch.arange(40) < torch.tensor([[len(angle)], [40]])
    piece = split_kmeans._pieces(unit, held, torch.tensor([3, 5]), 4)[0, : len(angle)]
    assert piece.tolist() == [1, 1, 0, 2, 1, 1, 1, 2, 2, 2, 2]  # 98 degrees fitted worst
