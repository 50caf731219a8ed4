from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hmn._native as native
from hmn._native import backend
from hmn._native.fallback import search as twin
from hmn.errors import ConfigError, NotFittedError, ShapeError
from hmn.index.clustering.reduction import OneColumnReduction
from hmn.index.structures.cluster import ClusterIndex, default_clusters
from hmn.index.tuning import recall_at_k


def drawn(n: int = 4000, d: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clustered keys whose lengths differ tenfold, and queries near some of them."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(50, d, generator=generator)
    keys = center[torch.randint(50, (n,), generator=generator)] + 0.5 * torch.randn(n, d, generator=generator)
    keys = keys * (2.3 * torch.rand(n, 1, generator=generator)).exp()
    return keys, keys[:200] + torch.randn(200, d, generator=generator)


def recall(index: ClusterIndex, keys: Tensor, query: Tensor, k: int = 10) -> float:
    best = (query.double() @ keys.double().T).topk(k, dim=1).indices
    return float((index.search(query, k).cell.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double().mean())


@pytest.mark.parametrize("codes", ["int4", "int8", None])
@pytest.mark.parametrize("clusters", [60, (8, 60)])
def test_all_probes_find_all_and_few_find_most(codes: str | None, clusters: int | tuple[int, int]) -> None:
    keys, query = drawn()
    index = ClusterIndex(clusters, clusters, codes=codes)
    index.build(keys)
    assert recall(index, keys, query) >= (0.995 if codes == "int4" else 1.0)
    everything = index.search(query, 10).reads
    index.num_probes = 8 if isinstance(clusters, int) else (4, 8)
    assert recall(index, keys, query) > 0.9
    assert bool((index.search(query, 10).reads < everything / 2).all())


def test_reads_count_every_byte_that_is_touched() -> None:
    keys, query = drawn(n=1000, d=24)
    index = ClusterIndex((4, 20), (2, 5), codes="int8", rescore=30)
    index.build(keys)
    result = index.search(query[:1], 10)
    # codes of 24 bytes and two numbers of 4 an entry; a key in float32 has 96 bytes
    root, inner, leaves = (part.level for part in (*index.levels.clusters.upper, index.levels.leaves))
    score = query[:1] @ index.levels.clusters.directions[0].T
    entered = score.topk(2).indices[0]
    inner_entries = int(inner.length[entered].sum())
    total = result.reads[0] * 96
    leaf_entries = (float(total) - 32 * (4 + inner_entries) - 96 * (2 + 5) - 96 * 30) / 32
    assert leaf_entries == pytest.approx(round(leaf_entries), abs=1e-2)
    assert sum(sorted(leaves.length.tolist())[:5]) <= leaf_entries <= sum(sorted(leaves.length.tolist())[-5:])
    assert len(root.length) == 1
    assert result.cells_scored.tolist() == [30]


def test_long_keys_are_found_though_clusters_are_of_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2000, 16, generator=generator)
    keys[:20] *= 30
    query = torch.randn(100, 16, generator=generator)
    for reduction in (None, OneColumnReduction()):
        index = ClusterIndex(40, 10, reduction=reduction)
        index.build(keys)
        top = (query @ keys.T).argmax(dim=1)
        assert float((index.search(query, 1).cell[:, 0] == top).float().mean()) > 0.85


@pytest.mark.parametrize("size", [1e-25, 1e9, 1e17])
def test_keys_of_any_size_are_found_with_few_probes(size: float) -> None:
    keys, query = drawn()
    index = ClusterIndex(60, 12)
    index.build(keys * size)
    assert recall(index, keys, query) > 0.9


def test_rescoring_stops_at_all_cells() -> None:
    keys, query = drawn()
    index = ClusterIndex(20, 20, rescore=1 << 40)
    index.build(keys)
    assert recall(index, keys, query) == 1.0
    assert index.search(query, 10).cells_scored.tolist() == [len(keys)] * len(query)


def test_added_and_moved_cells_are_found_where_they_are_now() -> None:
    keys, query = drawn()
    index = ClusterIndex(60, 6)
    index.build(keys[:3000].clone())
    index.add(torch.arange(3000, 4000), keys[3000:])
    index.update(torch.arange(0, 1000), keys[1000:2000])
    index.remove(torch.arange(2000, 2500))
    now = torch.cat([keys[1000:2000], keys[1000:2000], keys[2500:]])
    fresh = ClusterIndex(60, 6)
    fresh.build(now)
    exact = (query.double() @ now.double().T).topk(10, dim=1).values
    for one in (index, fresh):
        result = one.search(query, 10)
        near = result.score.double() >= exact[:, -1:] - 1e-4 * exact[:, -1:].abs()
        assert float(near.double().mean()) > 0.85
        assert not bool(((result.cell >= 2000) & (result.cell < 2500)).any()) or one is fresh


def test_the_twin_gives_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    if native.kernels() == "twin":
        pytest.skip("the kernels were not built")
    keys, query = drawn()
    index = ClusterIndex((8, 60), (4, 12))
    index.build(keys)
    compiled = index.search(query, 10)
    monkeypatch.setattr(backend, "compiled", None)
    assert native.search_levels is not twin.search_levels
    plain = index.search(query, 10)
    assert recall_at_k(plain, compiled) > 0.999
    torch.testing.assert_close(plain.reads, compiled.reads)


def test_rows_changed_in_place_are_scored_as_they_are_now() -> None:
    keys, query = drawn()
    index = ClusterIndex(20, 20, codes="int8")
    index.build(keys)
    before = index.search(query, 1)
    keys *= 2
    torch.testing.assert_close(index.search(query, 1).score, 2 * before.score)


def test_strategies_get_the_clusters_and_their_cells() -> None:
    keys, _ = drawn(n=500)
    index = ClusterIndex(12)
    index.build(keys, torch.arange(500) * 3)
    assert index.centroids().shape == (12, 24)
    cells, length = index.cells_in(torch.arange(12))
    assert sorted(cells.tolist()) == [3 * row for row in range(500)]
    assert int(length.sum()) == 500
    some, _ = index.cells_in(torch.tensor([5, 2]))
    assert (
        some.tolist()
        == index.cells_in(torch.tensor([5]))[0].tolist() + index.cells_in(torch.tensor([2]))[0].tolist()
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"num_clusters": 0},
        {"num_clusters": "64x"},
        {"num_clusters": (4, 8), "num_probes": (1, 2, 3)},
        {"num_probes": 0},
        {"codes": "int3"},
        {"iterations": -1},
        {"rescore": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ClusterIndex(**settings)  # type: ignore[arg-type]


def test_settings_of_several_levels_are_read_from_text() -> None:
    index = ClusterIndex("8x60", "4x12")
    assert index.num_clusters == (8, 60)
    assert index.num_probes == (4, 12)


def test_a_state_of_other_settings_is_refused_and_changes_nothing() -> None:
    keys, query = drawn(n=300)
    index, other = ClusterIndex(6, codes="int4"), ClusterIndex(6, codes="int8")
    index.build(keys)
    other.build(keys)
    before = other.search(query, 5)
    for state in (index.state_dict(), {}, {"rows.used": torch.tensor(300), "rows.keys": keys}):
        with pytest.raises(ShapeError):
            other.load_state_dict(state)
    assert torch.equal(other.search(query, 5).cell, before.cell)
    with pytest.raises(NotFittedError):
        ClusterIndex(6).search(query, 5)


@pytest.mark.parametrize(
    ("cells", "clusters"),
    [
        (0, 1),
        (63, 1),
        (6_400, 100),
        (16_383, 255),
        (16_384, 256),  # where both limits meet
        (16_448, 256),  # one per 64 would be 257
        (90_000, 600),
        (1_000_000, 2_000),
        (10_000_000, 6_324),  # 6,324.6
    ],
)
def test_by_default_clusters_are_one_per_64_cells_and_at_most_twice_the_root(
    cells: int, clusters: int
) -> None:
    assert default_clusters(cells) == clusters


def test_an_index_without_a_number_makes_the_default_one_and_loads_any_other() -> None:
    keys, query = drawn(n=22_500, d=4)
    index, older = ClusterIndex(iterations=0), ClusterIndex(22_500 // 64, iterations=0)
    for each, clusters in ((index, 300), (older, 351)):
        each.build(keys)
        assert each.stats()["num_clusters"] == str(clusters)
    before = older.search(query, 5)
    index.load_state_dict(older.state_dict())
    assert index.stats()["num_clusters"] == "351"
    assert torch.equal(index.search(query, 5).cell, before.cell)
    index.add(torch.arange(22_500, 22_600), keys[:100])
    assert index.max_effort == 351
    index.build(keys[:6_400])
    assert index.max_effort == 100


def test_stats_give_the_shape() -> None:
    keys, _ = drawn(n=300)
    index = ClusterIndex((2, 6), (1, 3), codes=None)
    index.build(keys)
    stats = index.stats()
    assert stats["num_clusters"] == "2x6"
    assert stats["codes"] == "none"
    assert stats["cells"] == 300


def test_probes_for_another_number_of_levels_are_refused() -> None:
    index = ClusterIndex((2, 4, 8), num_probes=(1, 2, 3))
    index.build(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)))
    index.num_probes = (2, 3)
    with pytest.raises(ConfigError, match="one for each of 3 levels"):
        index.search(torch.ones(1, 5), 2)


@pytest.mark.parametrize(
    ("counts", "effort", "probes"),
    [
        ((8, 64), 1, (1, 1)),
        ((8, 64), 16, (4, 16)),  # a quarter of 64; the root of it, a half, of 8
        ((8, 64), 7, (3, 7)),  # 2.6, rounded
        ((8, 64), 64, (8, 64)),
        ((10, 100, 1_000), 1, (1, 1, 1)),
        ((10, 100, 1_000), 8, (2, 4, 8)),  # 0.2, 0.2^2, 0.2^3
        ((10, 100, 1_000), 125, (5, 25, 125)),  # 0.5, 0.5^2, 0.5^3
        ((10, 100, 1_000), 1_000, (10, 100, 1_000)),
        ((10, 100, 1_000), 5_000, (10, 100, 5_000)),
    ],
)
def test_effort_enters_a_share_of_each_level_such_that_shares_multiply(
    counts: tuple[int, ...], effort: int, probes: tuple[int, ...]
) -> None:
    index = ClusterIndex(counts, (1,) * len(counts), iterations=0)
    index.build(torch.randn(1_000, 4, generator=torch.Generator().manual_seed(0)))
    index.effort = effort
    assert index.num_probes == probes
    assert index.effort == effort and index.max_effort == counts[-1]
