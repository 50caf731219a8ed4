"""Rows held by a faiss index: what is masked, and what a search of it touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.index.reference import clustered

faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")

from hmn.index.structures.faiss import FaissIndex  # noqa: E402


@pytest.mark.parametrize(
    ("codes", "code_bytes", "tables"), [("Flat", 128, 0), ("SQ8", 32, 256), ("PQ8x4", 4, 4 * 16 * 32)]
)
def test_reads_of_inverted_lists_are_exact(codes: str, code_bytes: int, tables: int) -> None:
    keys, query = clustered(0, 2000, 20)
    index = FaissIndex(f"IVF16,{codes}", num_probes=2)
    index.build(keys)
    centroid = faiss.extract_index_ivf(index._parts.vectors.index).quantizer.reconstruct_n(0, 16)
    visited = np.argsort(-(query.numpy() @ centroid.T), axis=1)[:, :2]
    filed = (keys.numpy() @ centroid.T).argmax(axis=1)
    for held in (2000, 700, 1200):
        if held == 700:
            index.remove(torch.arange(700, 2000))
        elif held == 1200:
            index.add(torch.arange(700, 1200), keys[700:1200].clone())
        result = index.search(query, 10)
        size = np.bincount(filed[:held], minlength=16)[visited].sum(axis=1)
        again = (result.cell >= 0).sum(dim=1).numpy()
        cost = 16 * 128 + size * (code_bytes + 8) + tables + again * 128
        np.testing.assert_allclose(result.reads.numpy(), cost / 128, rtol=1e-6)
        assert result.cells_scored.tolist() == (size if codes == "Flat" else again).tolist()


def test_reads_are_unknown_elsewhere() -> None:
    keys, query = clustered(0, 300, 4)
    index = FaissIndex("HNSW8", ef_search=20)
    index.build(keys)
    result = index.search(query, 5)
    assert bool(result.reads.isnan().all()) and result.cells_scored.tolist() == [5] * 4


@pytest.mark.parametrize("factory", ["HNSW8", "IVF16,Flat"])
def test_removed_cells_take_no_place_among_the_results(factory: str) -> None:
    keys = clustered(0, 300, 1)[0]
    held = dict(enumerate(keys.clone()))
    index = FaissIndex(factory, num_probes=None if "HNSW" in factory else 16)
    index.build(keys)
    query = keys[:1]
    best = index.search(query, 15).cell[0]
    index.remove(best)
    result = index.search(query, 8)
    assert int((result.cell >= 0).sum()) == 8 and not set(result.cell[0].tolist()) & set(best.tolist())
    assert index.stats()["masked"] == (15 if "HNSW" in factory else 0)
    index.add(best[:4], torch.stack([held[cell] for cell in best[:4].tolist()]))
    assert set(index.search(query, 4).cell[0].tolist()) == set(best[:4].tolist())
