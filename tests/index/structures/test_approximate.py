"""Structures that look at a small part of the cells find most of what they are asked for."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import clustered, listed, recall

from hmn.index.registry import make_index

STRUCTURES = [
    "cluster:num_clusters=60,num_probes=2",
    "wta-hash:num_tables=8,num_permutations=3,prefix=16",
    "wta-hash:num_tables=8,num_permutations=4,prefix=16,num_probes=3,max_candidates=100",
    "pca-tree:leaf_size=16,num_leaves=8",
    "faiss:IVF60,Flat,num_probes=2",
    "faiss:IVF60,PQ8x4,num_probes=2,rescore=4",
    "faiss:HNSW16,rescore=4",
]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device(request.param)


@pytest.mark.parametrize("name", listed(STRUCTURES))
def test_finds_far_more_than_random_cells_would(name: str, device: torch.device) -> None:
    keys, query = clustered(0, 3000, 100)
    index = make_index(name)
    index.build(keys.to(device))
    result = index.search(query.to(device), 10)
    share = float(result.cells_scored.double().mean()) / len(keys)
    assert 0 < share < 0.12
    assert recall(result, query, keys, 10) > max(0.3, 5 * share)
    reads = result.reads[~result.reads.isnan()]
    assert bool((reads >= result.cells_scored[~result.reads.isnan()]).all()) and bool((reads < 600).all())


@pytest.mark.parametrize("name", listed(STRUCTURES))
def test_the_same_seed_gives_the_same_results_also_after_a_round_trip(
    name: str, device: torch.device
) -> None:
    keys, query = clustered(1, 1000, 20)
    results = []
    for loaded in (False, False, True):
        index = make_index(name, seed=3)
        index.build(keys.to(device, copy=True))
        index.update(torch.arange(0, 1000, 9), keys[torch.arange(1, 1001, 9) % 1000])
        index.remove(torch.arange(5, 900, 11))
        if loaded:
            again = make_index(name, seed=3)
            again.load_state_dict(index.state_dict())
            index = again
        index.state_dict()
        results.append(index.search(query.to(device), 10))
    for result in results[1:]:
        for part, wanted in zip(result, results[0], strict=True):
            torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
