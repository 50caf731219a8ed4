from __future__ import annotations

import torch
from torch.nn import functional as F

from hmn.index.clustering.kmeans import assign, kmeans


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clusters_that_lie_apart_are_found_whatever_their_size_and_length() -> None:
    centers = F.normalize(torch.randn(20, 16, generator=generator(0)), dim=1)
    size = torch.arange(20) * 4 + 20
    of = torch.arange(20).repeat_interleave(size)
    points = centers[of] + 0.02 * torch.randn(len(of), 16, generator=generator(1))
    points = points * (0.1 + 10 * torch.rand(len(of), 1, generator=generator(2)))
    found = kmeans(points, 20, generator=generator(3))
    nearest, _ = assign(points, found)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(20))
    for one in range(20):
        assert len(nearest[of == one].unique()) == 1, "a cluster was cut in two"
    assert len(nearest.unique()) == 20


def test_assign_agrees_with_float64() -> None:
    points, centroid = (
        torch.randn(500, 24, generator=generator(0)),
        torch.randn(60, 24, generator=generator(1)),
    )
    nearest, product = assign(points, centroid)
    true = points.double() @ centroid.double().T
    best = true.max(dim=1)
    torch.testing.assert_close(
        product.double(), true.gather(1, nearest.unsqueeze(1)).squeeze(1), rtol=1e-4, atol=1e-4
    )
    assert float((nearest == best.indices).double().mean()) > 0.99  # four are scored in full, found by codes
    assert float((best.values - product.double()).max()) < 0.05


def test_no_cluster_stays_empty_while_there_are_points_apart() -> None:
    points = torch.cat([torch.eye(8)[:1].repeat(500, 1), torch.eye(8)])
    found = kmeans(points, 8, generator=generator(0))
    assert len(assign(torch.eye(8), found)[0].unique()) == 8


def test_duplicates_zero_vectors_and_as_many_clusters_as_points() -> None:
    for points in (torch.ones(5, 3), torch.zeros(5, 3), torch.eye(3)):
        found = kmeans(points, len(points), generator=generator(0))
        assert bool(torch.isfinite(found).all())
        assert found.shape == points.shape


def test_same_seed_same_clusters_and_progress_is_reported() -> None:
    points = torch.randn(400, 8, generator=generator(0))
    reported: list[tuple[int, int]] = []
    one = kmeans(
        points, 10, generator=generator(5), iterations=3, on_progress=lambda *done: reported.append(done)
    )
    assert torch.equal(one, kmeans(points, 10, generator=generator(5), iterations=3))
    assert not torch.equal(one, kmeans(points, 10, generator=generator(6), iterations=3))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_it_fits_better_than_random_points_and_about_as_well_as_lloyd_in_float64() -> None:
    points = F.normalize(torch.randn(2000, 6, generator=generator(0)), dim=1)
    ours = assign(points, kmeans(points, 30, generator=generator(1), iterations=10))[1].mean()
    random = assign(points, points[:30])[1].mean()
    centroid = points[:30].double()
    for _ in range(30):
        nearest = (points.double() @ centroid.T).argmax(dim=1)
        centroid = F.normalize(torch.zeros_like(centroid).index_add_(0, nearest, points.double()), dim=1)
    lloyd = (points.double() @ centroid.T).amax(dim=1).mean()
    assert ours > random + 0.05
    assert ours > lloyd - 0.01
