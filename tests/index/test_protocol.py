"""What the protocols promise beside searching: effort, and whether there is a structure."""

from __future__ import annotations

import pytest
import torch
from tests.index.reference import listed, whole

from hmn.errors import ConfigError, NotFittedError
from hmn.index.protocol import Tunable
from hmn.index.registry import make_index, with_setting
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.wta_hash import WTAHashIndex

SETTINGS = {
    "cluster:num_clusters=9": ("num_probes", 9),
    "cluster:num_clusters=3x9,num_probes=1x2": ("num_probes", 9),
    "hierarchy": ("reach", 1000),
    "wta-hash": ("max_candidates", 200),
    "pca-tree:leaf_size=50": ("num_leaves", 4),
    "faiss:IVF4,Flat": ("num_probes", 4),
    "faiss:PCA4,IVF4,Flat": ("num_probes", 4),
    "faiss:HNSW8": ("ef_search", 200),
    "faiss:PCA4,HNSW8": ("ef_search", 200),
}
"""The setting that effort stands for, and its largest value for 200 cells."""


@pytest.mark.parametrize("name", listed(list(SETTINGS)))
def test_effort_is_one_setting(name: str) -> None:
    index = make_index(name)
    assert isinstance(index, Tunable), "also before it is built"
    with pytest.raises(NotFittedError):
        _ = index.max_effort
    keys = whole(0, 200, 8)
    index.build(keys)
    setting, most = SETTINGS[name]
    assert (index.effort_name, index.max_effort) == (setting, most)
    assert index.effort >= 1
    for value in (3, 1):
        index.effort = value
        index.search(keys[:2], 3)
        shown = getattr(index, setting)
        assert index.effort == value == (shown[-1] if isinstance(shown, tuple) else shown)
        again = make_index(with_setting(name, index, setting))
        assert getattr(again, setting) == shown
    for bad in (0, 2.5, True):
        with pytest.raises(ConfigError, match="effort is"):
            index.effort = bad  # type: ignore[assignment]
    assert index.effort == 1


def test_effort_is_that_of_faiss_where_none_was_set() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")
    for name, wanted in (("IVF4,Flat", 1), ("HNSW8", faiss.IndexHNSWFlat(8, 8).hnsw.efSearch)):
        index = make_index(f"faiss:{name}")
        index.build(whole(0, 200, 8))
        assert isinstance(index, Tunable) and index.effort == wanted


def test_effort_sets_the_probes_of_all_levels_in_proportion() -> None:
    index = ClusterIndex((4, 16, 64), (1, 1, 1))
    with pytest.raises(NotFittedError):
        index.effort = 8
    index.build(torch.randn(600, 8, generator=torch.Generator().manual_seed(0)))
    index.effort = 8  # an eighth of the last level is half of the first, a quarter of the second
    assert index.num_probes == (2, 4, 8)
    index.effort = index.max_effort
    assert index.num_probes == (4, 16, 64)
    same = ClusterIndex((4, 16, 64), 2)
    same.build(whole(0, 600, 8))
    same.effort = 5
    assert same.num_probes == 5, "one number stays one number for all levels"


def test_effort_for_all_cells_sets_no_limit() -> None:
    index = WTAHashIndex(prefix=2)
    index.build(whole(0, 50, 8))
    index.effort = 49
    assert index.max_candidates == 49
    index.effort = 50
    assert index.max_candidates is None and index.effort == 50


def test_only_exact_search_has_no_structure() -> None:
    assert not ExactIndex().has_structure
    assert not isinstance(ExactIndex(), Tunable)
    assert all(make_index(name).has_structure for name in ("cluster", "hierarchy", "wta-hash", "pca-tree"))
