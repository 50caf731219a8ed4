"""As long as there are k cells, every structure fills k places; reads count all that is looked at."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import listed, recall
from torch import Tensor

from hmn._native import backend
from hmn.index.registry import make_index
from hmn.index.structures.base import Structure
from hmn.index.structures.cluster import ClusterIndex

STRUCTURES = [
    "cluster",
    "cluster:num_probes=1",
    "cluster:codes=none,num_probes=2",
    "cluster:num_clusters=8x46,num_probes=1x1",
    "hierarchy",
    "hierarchy:reach=1",
    "hierarchy:reach=1,rescore=1",
    "wta-hash",
    "wta-hash:max_candidates=1",
    "pca-tree:leaf_size=8",
    "faiss:IVF32,Flat",
    "faiss:HNSW16",
]


def few_distinct(cells: int) -> tuple[Tensor, Tensor]:
    """Cells of 20 distinct vectors, and queries whose products with all of them are negative."""
    generator = torch.Generator().manual_seed(0)
    vector = 1 + torch.rand(20, 16, generator=generator)
    keys = vector[torch.randint(20, (cells,), generator=generator)]
    return keys, -torch.rand(12, 16, generator=generator)


def assert_full(found: Tensor, held: set[int], k: int) -> None:
    for line in found.tolist():
        cells = [cell for cell in line if cell >= 0]
        assert len(cells) == len(set(cells)) == min(k, len(held))
        assert set(cells) <= held


@pytest.mark.parametrize("name", listed(STRUCTURES))
@pytest.mark.parametrize("compiled", [True, False])
def test_places_are_filled_also_after_changes(
    name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(backend, "compiled", None)
    keys, query = few_distinct(600)
    index = make_index(name)
    index.build(keys)
    held = set(range(600))
    for change in ("none", "remove", "add"):
        if change == "remove":
            index.remove(torch.arange(560))
            held -= set(range(560))
        elif change == "add":
            index.add(torch.arange(1000, 1030), few_distinct(30)[0] * 3)
            held |= set(range(1000, 1030))
        for k in (1, 10, 40, 100):
            assert_full(index.search(query, k).cell, held, k)


def test_empty_clusters_cost_no_probe() -> None:
    keys, query = few_distinct(3000)
    for counts in (46, (8, 46)):
        index = ClusterIndex(counts, 16)
        index.build(keys)
        assert int(index.stats()["empty_clusters"]) > 20
        assert recall(index.search(query, 1), query, keys.unique(dim=0), 1) >= 0
        best = (query.double() @ keys.double().T).amax(dim=1)
        assert bool((index.search(query, 1).score[:, 0] >= best - 1e-4).all())


@pytest.mark.parametrize("name", listed([name for name in STRUCTURES if "HNSW" not in name]))
def test_an_index_that_does_not_fill_gives_what_it_looked_at(name: str) -> None:
    keys, query = few_distinct(600)
    index = make_index(name)
    assert isinstance(index, Structure)
    index.build(keys)
    full = index.search(query, 100)
    index.fills = False
    found = index.search(query, 100)
    count = (found.cell >= 0).sum(dim=1)
    assert bool((count <= 100).all()) and bool((found.reads <= full.reads).all())
    if "num_probes" in name or "wta" in name:
        assert int(count.min()) < 100 and float(found.reads.mean()) < float(full.reads.mean())
