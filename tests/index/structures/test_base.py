"""What the base class of the structures does for all of them."""

from __future__ import annotations

from typing import NoReturn

import pytest
import torch
from tests.index.reference import listed, whole

from hmn.index.registry import make_index

BREAKS = {
    "cluster:num_clusters=4": "hmn.index.structures.cluster_levels.assign",
    "wta-hash:prefix=2": "hmn.index.structures.wta_hash.Buckets",
    "pca-tree:leaf_size=4": "hmn.index.structures.pca_tree.grow",
    "faiss:IVF4,Flat": "hmn.index.structures.faiss.FaissRows",
}
"""Structures, and what fails in the middle of their build."""


@pytest.mark.parametrize("name", listed(list(BREAKS)))
@pytest.mark.parametrize("settings", ["", "reduction=one-column"])
def test_a_build_that_fails_leaves_the_index_as_it_was(
    name: str, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index(f"{name},{settings}" if settings else name)
    query = whole(2, 5, 6)
    index.build(whole(1, 60, 6), torch.arange(60) * 2)
    before, stats = index.search(query, 9), index.stats()

    def fails(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(BREAKS[name], fails)
        with pytest.raises(MemoryError):
            index.build(whole(3, 80, 4))
    for part, wanted in zip(index.search(query, 9), before, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)
    assert index.stats() == stats
    index.add(torch.tensor([1]), whole(4, 1, 6))
    index.remove(torch.arange(0, 120, 2))
    assert len(index) == 1
