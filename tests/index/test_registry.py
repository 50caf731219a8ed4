"""Structures are made by name, with settings from a string or beside it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from hmn.errors import ConfigError, MissingPackageError
from hmn.index.clustering.reduction import NoReduction, PaperReduction
from hmn.index.registry import STRUCTURES, make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.pca_tree import PCATreeIndex
from hmn.index.structures.wta_hash import WTAHashIndex


def test_each_name_makes_its_structure() -> None:
    assert isinstance(make_index("exact"), ExactIndex)
    assert isinstance(make_index("wta-hash"), WTAHashIndex)
    assert isinstance(make_index("pca-tree"), PCATreeIndex)


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_that_can_be_made_searches(name: str) -> None:
    module, _ = STRUCTURES[name]
    if find_spec(module) is None or (name == "faiss" and find_spec("faiss") is None):
        pytest.skip(f"{name} cannot be made here")
    index = make_index(name)
    keys = torch.eye(10)
    index.build(keys)
    assert len(index) == 10
    assert index.search(keys, 1).cell.squeeze(1).tolist() == list(range(10))
    assert isinstance(index.stats()["structure"], str)


def test_settings_come_from_the_string_or_beside_it() -> None:
    index = make_index("wta-hash:num_tables=3,max_candidates=50", prefix=16, seed=7)
    assert isinstance(index, WTAHashIndex)
    assert (index.num_tables, index.max_candidates, index.prefix, index.seed) == (3, 50, 16, 7)
    none = make_index("wta-hash: max_candidates = none")
    assert isinstance(none, WTAHashIndex) and none.max_candidates is None


def test_reduction_and_storage_may_be_named() -> None:
    index = make_index("pca-tree:reduction=none,storage=float16")
    assert isinstance(index, PCATreeIndex)
    assert isinstance(index._reduction, NoReduction) and index.storage == torch.float16
    other = make_index("pca-tree", reduction=PaperReduction(0.5), storage=torch.bfloat16)
    assert isinstance(other, PCATreeIndex)
    assert isinstance(other._reduction, PaperReduction) and other.storage == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        (
            "tree",
            {},
            "there is no index 'tree', expected one of exact, cluster, hierarchy, wta-hash, pca-tree, faiss",
        ),
        (
            "pca-tree:leafs=3",
            {},
            "pca-tree has no setting 'leafs', expected one of leaf_size, num_leaves, reduction",
        ),
        ("exact", {"seed": 3}, "exact has no setting 'seed', expected one of storage"),
        ("exact:keys=3", {}, "exact has no setting 'keys'"),
        ("pca-tree:64", {}, "'64' is not a setting of pca-tree, expected name=value"),
        ("pca-tree:leaf_size=3,leaf_size=4", {}, "pca-tree is given leaf_size twice"),
        ("pca-tree:leaf_size=3", {"leaf_size": 3}, "pca-tree is given leaf_size twice"),
        ("pca-tree:leaf_size=3.5", {}, "leaf_size is 3.5"),
        ("pca-tree:leaf_size=true", {}, "leaf_size is True"),
        ("pca-tree:leaf_size=many", {}, "leaf_size is 'many'"),
        ("pca-tree:reduction=two", {}, "there is no reduction 'two'"),
        ("pca-tree:storage=int8", {}, "storage is 'int8', expected one of float32, float16, bfloat16"),
    ],
)
def test_errors_name_the_bad_setting(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_index(name, **more)


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hmn\[faiss\]'"):
        make_index("faiss:Flat")


def test_a_factory_string_keeps_its_commas() -> None:
    pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")
    from hmn.index.structures.faiss import FaissIndex

    index = make_index("faiss:OPQ8_32,IVF256(RCQ2x4),PQ8,num_probes=16,rescore=2.5", seed=1)
    assert isinstance(index, FaissIndex)
    assert (index.factory, index.num_probes, index.rescore) == ("OPQ8_32,IVF256(RCQ2x4),PQ8", 16, 2.5)
