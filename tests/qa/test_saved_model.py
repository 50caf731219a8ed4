"""The folder of a model: what is written, and what is checked when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.qa.small import CLUSTER, figures, fitted
from torch import Tensor

from hmn.errors import BundleError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import make_index
from hmn.qa.factoid_qa import FactoidQA
from hmn.store.bundle import writing_bundle

Split = tuple[QuestionSet, QuestionSet]


@pytest.mark.slow
@pytest.mark.parametrize("index", ["exact", CLUSTER])
def test_a_loaded_model_answers_as_the_saved_one(
    index: str, small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = fitted(small_facts, small_split, index=index)
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    texts = small_split[1].text[:50]
    assert again.ask_all(texts, 5) == qa.ask_all(texts, 5)
    assert figures(again.evaluate(small_split[1])) == figures(qa.evaluate(small_split[1]))
    assert again.config == qa.config


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "memory.safetensors", "facts.parquet", "names.parquet"]
)
def test_a_damaged_bundle_names_the_file(clustered: FactoidQA, tmp_path: Path, file: str) -> None:
    clustered.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=file):
        FactoidQA.from_pretrained(tmp_path / "model")
    path.unlink()
    with pytest.raises(BundleError, match=file):
        FactoidQA.from_pretrained(tmp_path / "model")


@pytest.mark.slow
def test_a_loaded_model_searches_the_structure_that_was_saved(
    clustered: FactoidQA, saved: Path, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **settings: Any) -> Tensor:  # noqa: ARG001
        raise AssertionError("k-means once more")

    monkeypatch.setattr("hmn.index.structures.cluster_levels.kmeans", refused)
    again = FactoidQA.from_pretrained(saved)
    with pytest.raises(AssertionError, match="once more"):
        make_index(CLUSTER).build(clustered.memory.snapshot())
    query = clustered.encode(small_split[1].text)
    one, two = (model.network.reader.index.search(query, 30) for model in (clustered, again))
    assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))
    keys, state = load_file(saved / "memory.safetensors")["keys"], load_file(saved / "index.safetensors")
    assert "rows.keys" not in state
    assert not any(value.shape == keys.shape and value.is_floating_point() for value in state.values())
    assert figures(again.evaluate(small_split[1])) == figures(clustered.evaluate(small_split[1]))
    assert again.ask_all(small_split[1].text[:20]) == clustered.ask_all(small_split[1].text[:20])
    assert (again.config.index, again.config.strategy) == (CLUSTER, "top-k:1+sample-k:2")


def test_the_keys_are_there_once(saved: Path) -> None:
    again = FactoidQA.from_pretrained(saved)
    index: Any = again.network.reader.index
    assert index._rows.keys.data_ptr() == again.memory.snapshot().data_ptr()


@pytest.mark.parametrize("damage", ["nothing", "other settings", "fewer cells", "another structure"])
def test_a_structure_that_does_not_fit_is_reported(saved: Path, damage: str, tmp_path: Path) -> None:
    state = load_file(saved / "index.safetensors")
    other = make_index("pca-tree" if damage == "another structure" else "cluster:num_clusters=4")
    other.build(load_file(saved / "memory.safetensors")["keys"][: -5 if damage == "fewer cells" else None])
    if damage in ("fewer cells", "another structure"):
        state = other.state_dict(with_keys=False)
    if damage == "other settings":
        state.pop("leaves.codes")
    with writing_bundle(tmp_path / "bad") as folder:
        for file in saved.iterdir():
            if file.name not in ("manifest.json", "index.safetensors"):
                (folder / file.name).write_bytes(file.read_bytes())
        if damage != "nothing":
            save_file(state, folder / "index.safetensors")
    with pytest.raises(BundleError, match=r"index\.safetensors.*save") as caught:
        FactoidQA.from_pretrained(tmp_path / "bad")
    if damage != "nothing":
        assert CLUSTER in str(caught.value) and "index='exact'" in str(caught.value)
    assert FactoidQA.from_pretrained(tmp_path / "bad", index="exact").ask("where was anybody born")


def test_a_flipped_bit_in_the_structure_is_found(saved: Path) -> None:
    file = saved / "index.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"index\.safetensors"):
        FactoidQA.from_pretrained(saved)


def test_exact_search_keeps_no_structure_and_models_of_before_load(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = fitted(small_facts, small_split, tmp_path / "model", epochs=1)
    assert not (tmp_path / "model" / "index.safetensors").exists()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config.pop("index"), config.pop("strategy")) == ("exact", "k-mips")
    with writing_bundle(tmp_path / "old") as folder:
        for file in (tmp_path / "model").iterdir():
            if file.name not in ("manifest.json", "config.json"):
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "config.json").write_text(json.dumps(config))
    again = FactoidQA.from_pretrained(tmp_path / "old")
    assert again.ask_all(small_split[1].text[:9]) == qa.ask_all(small_split[1].text[:9])
