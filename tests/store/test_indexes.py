"""An index that is saved and loaded answers as before, with the settings that it was tuned to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hmn import load_index, save_index
from hmn.errors import BundleError, ConfigError
from hmn.index import ClusterIndex, Index, PCATreeIndex, make_index, tune
from hmn.index.clustering.reduction import PaperReduction
from hmn.index.protocol import Tunable
from hmn.store.indexes import SETTINGS, TENSORS

NAMES = [
    "exact:screened=false",
    "cluster:num_clusters=4x40,num_probes=2x8,codes=int8,rescore=30,seed=0",
    "cluster:codes=none,storage=bfloat16,reduction=paper",
    "hierarchy:codes=int4,wanted=3,parts=8",
    "hierarchy:reach=none",
    "wta-hash:num_tables=4,max_candidates=300",
    "pca-tree:leaf_size=16,num_leaves=5",
    "faiss:IVF16,Flat,num_probes=3",
]


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2_000, 16, generator=generator), torch.randn(50, 16, generator=generator)


def made(name: str, keys: Tensor) -> Index:
    if name.startswith("faiss"):
        pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    index = make_index(name)
    index.build(keys)
    return index


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_answers_as_before(name: str, mmap: bool, tmp_path: Path) -> None:
    keys, query = data()
    index = made(name, keys)
    index.remove(torch.tensor([3, 1_999]))
    index.add(torch.tensor([5_000]), 3 * query[:1])
    if isinstance(index, Tunable):
        tune(index, query, 5, target_recall=0.8)
    index.fills = False  # type: ignore[attr-defined]
    save_index(index, tmp_path / "saved")
    loaded = load_index(tmp_path / "saved", mmap=mmap)
    assert type(loaded) is type(index) and loaded.stats() == index.stats()
    for one, other in zip(loaded.search(query, 7), index.search(query, 7), strict=True):
        assert torch.equal(one, other)
    assert not loaded.fills  # type: ignore[attr-defined]
    if isinstance(index, Tunable):
        assert loaded.effort == index.effort  # type: ignore[attr-defined]
    loaded.update(torch.tensor([7]), 9 * query[1:2])
    assert loaded.search(query[1:2], 1).cell.item() == 7
    again = load_index(tmp_path / "saved", mmap=mmap)  # the file is as it was
    assert torch.equal(again.search(query, 7).cell, index.search(query, 7).cell)


def test_keys_stay_in_the_file(tmp_path: Path) -> None:
    keys, _ = data()
    save_index(made("cluster", keys), tmp_path / "saved")
    loaded = load_index(tmp_path / "saved")
    assert isinstance(loaded, ClusterIndex) and loaded._rows is not None and loaded._rows._shared
    maps = Path("/proc/self/maps")
    if maps.exists():
        start = loaded._rows.keys.data_ptr()
        areas = [line.split() for line in maps.read_text(encoding="utf-8").splitlines()]
        ends = [(*(int(end, 16) for end in area[0].split("-")), area[-1]) for area in areas]
        assert [name for low, high, name in ends if low <= start < high] == [
            str(tmp_path / "saved" / TENSORS)
        ]
    del loaded
    whole = load_index(tmp_path / "saved", mmap=False)
    (tmp_path / "saved" / TENSORS).write_bytes(b"")
    assert torch.equal(whole.keys_of(torch.arange(2_000)), keys)


def test_a_reduction_is_saved_with_its_settings(tmp_path: Path) -> None:
    keys, query = data()
    index = PCATreeIndex(reduction=PaperReduction(0.7, 2))
    index.build(keys)
    save_index(index, tmp_path / "saved")
    loaded = load_index(tmp_path / "saved")
    assert torch.equal(loaded.search(query, 5).cell, index.search(query, 5).cell)

    class Own(PaperReduction):
        pass

    own = PCATreeIndex(reduction=Own())
    own.build(keys)
    with pytest.raises(ConfigError, match="reduction is Own, expected one of hmn"):
        save_index(own, tmp_path / "other")


def test_what_cannot_be_saved_or_loaded_is_refused(tmp_path: Path) -> None:
    class Own(ClusterIndex):
        pass

    own = Own()
    own.build(data()[0])
    with pytest.raises(ConfigError, match="the index is Own, expected one of exact, cluster"):
        save_index(own, tmp_path / "saved")
    with pytest.raises(BundleError, match="no such folder"):
        load_index(tmp_path / "saved")
    index = made("cluster", data()[0])
    save_index(index, tmp_path / "saved")
    save_index(index, tmp_path / "saved")  # in place of itself
    file = tmp_path / "saved" / SETTINGS
    about = json.loads(file.read_text(encoding="utf-8"))
    assert about["structure"] == "cluster" and about["settings"]["num_probes"] == 16
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="damaged"):
        load_index(tmp_path / "saved")
