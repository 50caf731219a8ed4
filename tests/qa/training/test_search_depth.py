"""The effort of an index is tuned if its text does not give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.qa.small import SIZES, TRAINING
from torch import Tensor

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.groups import Point
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.training import search_depth
from hmn.qa.training.run_folder import Run
from hmn.qa.training.search_depth import AGREED, WIDE, SearchDepth
from hmn.store.bundle import writing_bundle

Split = tuple[QuestionSet, QuestionSet]
K = 5


def over(name: str, keys: Tensor) -> Index:
    index = make_index(name)
    index.build(keys)
    return index


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3000, 8, generator=generator), torch.randn(200, 8, generator=generator)


def recall(index: Index, keys: Tensor, query: Tensor) -> float:
    best = (query.double() @ keys.double().T).topk(K, dim=1).indices
    return float((index.search(query, K).cell.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("cluster:num_clusters=100,codes=int8", "num_probes"),
        ("hierarchy", "reach"),
        ("pca-tree", "num_leaves"),
        ("wta-hash:num_tables=64,num_permutations=1,prefix=4", "max_candidates"),
    ],
)
def test_effort_is_tuned_to_the_recall_and_kept_in_training_if_it_is_cheap(
    name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, query = drawn()
    index: Any = over(name, keys)
    before = getattr(index, setting)
    depth = SearchDepth(index, name, 0.9, K, lambda: query)
    depth.tune()
    assert recall(index, keys, query) >= 0.9
    tuned = getattr(index, setting)
    assert depth.effort == tuned != before and depth.text.endswith(f"{setting}={tuned}")
    assert getattr(make_index(depth.text), setting) == tuned
    monkeypatch.setattr(search_depth, "WORTH_TRAINING_WITH", 100.0)
    depth.train()
    assert (getattr(index, setting), depth.effort) == (tuned, tuned)
    monkeypatch.setattr(search_depth, "WORTH_TRAINING_WITH", 0.0)
    depth.train()
    assert getattr(index, setting) == before and depth.effort is None
    depth.tune()
    depth.train()  # the configured effort is known, also after the second tuning
    assert getattr(index, setting) == before
    depth.restore(tuned)
    assert (getattr(index, setting), depth.effort) == (tuned, tuned)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("cluster:num_clusters=100,num_probes=2", 0.9),
        ("cluster:num_clusters=10x100,num_probes=2x4", 0.9),
        ("cluster:num_clusters=100", 0.0),
        ("exact", 0.9),
    ],
)
def test_a_given_effort_stays(name: str, asked: float) -> None:
    keys, query = drawn()
    index: Any = over(name, keys)
    before = getattr(index, "num_probes", None)
    depth = SearchDepth(index, name, asked, K, lambda: query)
    depth.tune()
    depth.train()
    depth.restore(None)
    assert (depth.text, depth.effort, getattr(index, "num_probes", None)) == (name, None, before)


def taught() -> tuple[Any, Tensor]:
    """A hierarchy that has learned to search very little, and queries that need more."""
    keys, query = drawn()
    index: Any = over("hierarchy:num_groups=100", keys)
    measured = index.groups.measured
    measured.usual = measured.most = Point(0.8, 0.1, 0.0)
    return index, query


def test_an_index_that_learns_is_tuned_to_find_the_best_cells_of_a_far_wider_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ExactIndex, "search", None)
    index, query = taught()
    index.reach = WIDE * 100
    best = index.search(query, 1).cell
    index.reach = 100
    depth = SearchDepth(index, "hierarchy", 0.95, K, lambda: query, learned=True)
    depth.tune()
    assert depth.effort == index.reach and depth.text == f"hierarchy:reach={index.reach}"
    assert 100 < index.reach < WIDE * 100
    agreed = [float((index.search(query, 1).cell == best).double().mean())]
    index.reach -= 1
    agreed.append(float((index.search(query, 1).cell == best).double().mean()))
    assert agreed[0] >= AGREED > agreed[1], "the least effort that finds them"
    depth.train()
    assert index.reach == 100 and depth.effort is None, "training uses what it has learned"
    depth.tune()
    depth.train()
    assert index.reach == 100


def test_an_index_that_wants_the_best_cell_is_tuned_to_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExactIndex, "search", None)
    index, query = taught()
    index.wanted, index.reach = 1, WIDE * 100
    best = index.search(query, 1).cell
    index.reach = 100
    SearchDepth(index, "hierarchy:wanted=1", 0.95, K, lambda: query).tune()
    assert 100 < index.reach < WIDE * 100
    assert float((index.search(query, K).cell[:, :1] == best).double().mean()) >= AGREED


def test_an_index_that_learns_gets_more_effort_if_there_are_no_held_out_questions() -> None:
    index, query = taught()
    depth = SearchDepth(index, "hierarchy", 0.95, K, lambda: query[:0], learned=True)
    depth.tune()
    assert (index.reach, depth.effort, depth.text) == (175, 175, "hierarchy:reach=175")
    given = SearchDepth(index, "hierarchy:reach=120", 0.95, K, lambda: query, learned=True)
    given.tune()
    assert (index.reach, given.effort, given.text) == (175, None, "hierarchy:reach=120")


@pytest.mark.slow
def test_a_model_keeps_its_effort_and_starts_another_training_without_it(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = FactoidQA(small_facts, **SIZES, index="cluster:num_clusters=60")
    qa.fit(*small_split, quiet=True, **{**TRAINING, "epochs": 1})
    first = qa.config.index
    assert first.startswith("cluster:num_clusters=60,num_probes=")
    qa.fit(*small_split, out=tmp_path / "model", quiet=True, **{**TRAINING, "epochs": 2})
    again = FactoidQA.from_pretrained(tmp_path / "model")
    assert again.config.index.count("num_probes") == 1
    assert again.config.index == qa.config.index
    query, keys = qa.encode(small_split[0].text), qa.memory.snapshot()
    for model in (qa, again):
        index: Any = model.network.reader.index
        assert model.config.index == f"cluster:num_clusters=60,num_probes={index.num_probes}"
        assert recall(index, keys, query) > 0.9


def test_another_index_is_tuned_as_well(small_facts: FactTable, small_split: Split, tmp_path: Path) -> None:
    qa = FactoidQA(small_facts, **SIZES).fit(*small_split, quiet=True, **{**TRAINING, "epochs": 1})
    assert qa.config.index == "exact"
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model", index="cluster:num_clusters=60")
    index: Any = again.network.reader.index
    assert again.config.index == f"cluster:num_clusters=60,num_probes={index.num_probes}"
    query, keys = qa.encode(small_split[0].text), qa.memory.snapshot()
    assert recall(index, keys, query) > 0.9
    assert again.use_index("cluster:num_clusters=60", recall=0.0).config.index == "cluster:num_clusters=60"
    less = again.use_index("cluster:num_clusters=60", recall=0.3).network.reader.index
    assert less.num_probes < index.num_probes  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="recall is 2"):
        again.use_index("cluster", recall=2.0)
    # models of early versions keep no questions, so an index is not tuned for them
    with writing_bundle(tmp_path / "old") as folder:
        for file in (tmp_path / "model").iterdir():
            if file.name not in ("manifest.json", "examples.json"):
                (folder / file.name).write_bytes(file.read_bytes())
    old = FactoidQA.from_pretrained(tmp_path / "old", index="cluster:num_clusters=60")
    assert old.config.index == "cluster:num_clusters=60"


@pytest.mark.slow
@pytest.mark.parametrize("worth", [0.0, 100.0])
def test_a_resumed_run_has_the_same_effort(
    worth: float, small_facts: FactTable, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are 25 steps per epoch; the run stops in the second."""
    monkeypatch.setattr(search_depth, "WORTH_TRAINING_WITH", worth)
    efforts: list[int] = []
    stepped = Run.stepped

    def fit(out: Path, stop_at: int) -> None:
        def watched(self: Run, progress: Any, record: Any) -> None:
            stepped(self, progress, record)
            efforts.append(int(qa.network.reader.index.num_probes))  # type: ignore[attr-defined]
            if progress.step == stop_at:
                raise KeyboardInterrupt

        qa = FactoidQA(small_facts, **SIZES, index="cluster:num_clusters=60")
        monkeypatch.setattr(Run, "stepped", watched)
        settings = {**TRAINING, "epochs": 2, "checkpoint_seconds": 0.0}
        qa.fit(*small_split, out=out, quiet=True, resume=out.name == "cut", **settings)

    fit(tmp_path / "whole", -1)
    whole, efforts = efforts, []
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", 37)
    fit(tmp_path / "cut", -1)
    # the step after the last checkpoint is taken again
    assert efforts[:37] + efforts[38:] == whole
    assert (set(whole) == {16}) == (worth == 0.0)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "cut" / file.name).read_bytes()
