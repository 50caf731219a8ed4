"""Models trained with an index or a strategy: what they learn, and how they resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.qa.small import CLUSTER, DRAWN, INDEXES, SIZES, TRAINING, contents, fitted, index_named
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.nn.loss import marginal_nll, sampled_nll
from hmn.nn.memory.renewal import RollingRenewal
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.training import trainer as training
from hmn.qa.training.run_folder import Run

Split = tuple[QuestionSet, QuestionSet]


@pytest.mark.slow
@pytest.mark.parametrize("name", INDEXES)
def test_training_through_any_structure_learns_as_much(
    name: str, small_facts: FactTable, small_split: Split
) -> None:
    qa = fitted(small_facts, small_split, index=index_named(name))
    found = qa.evaluate(small_split[1])
    assert found.pair_accuracy is not None and found.pair_accuracy > 0.9
    assert found.reads < len(qa.cells), "the model's own index was asked, which reads a part"
    assert qa.evaluate(small_split[1]).cells_scored == found.cells_scored


@pytest.mark.slow
def test_a_hierarchy_learns_from_the_questions_of_its_training(
    small_facts: FactTable, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmn.qa.training.query_log.ENOUGH", 50)
    monkeypatch.setattr(training, "TAUGHT_AFTER", (4,))
    heard: list[object] = []
    learn, forget = HierarchicalIndex.learn, HierarchicalIndex.forget

    def learns(self: HierarchicalIndex, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:
        heard.append(vectors)
        learn(self, query, cells, vectors=vectors)

    def forgets(self: HierarchicalIndex) -> None:
        heard.append("forgets")
        forget(self)

    monkeypatch.setattr(HierarchicalIndex, "learn", learns)
    monkeypatch.setattr(HierarchicalIndex, "forget", forgets)
    monkeypatch.setattr(ExactIndex, "search", None)
    built: list[int] = []
    build = HierarchicalIndex.build
    monkeypatch.setattr(
        HierarchicalIndex, "build", lambda self, keys: (built.append(len(keys)), build(self, keys))
    )
    questions, valid = small_split
    qa = FactoidQA(small_facts, **SIZES, index="hierarchy")
    steps: list[int | None] = []

    def on_progress(_done: int, _total: int) -> None:
        index = qa.network.reader.index
        assert isinstance(index, HierarchicalIndex)
        steps.append(index.reach)

    qa.fit(questions, valid, quiet=True, on_progress=on_progress, **{**TRAINING, "epochs": 2, "patience": 2})
    # of the vectors only when keys stand still: at the end of an epoch, whose model may be kept
    assert heard == [False, True, "forgets", True, "forgets", True]
    assert len(built) <= 2, "once to begin with, and once more where an earlier epoch is taken back"
    index = qa.network.reader.index
    assert isinstance(index, HierarchicalIndex) and qa.config.index == f"hierarchy:reach={index.reach}"
    assert set(steps) == {100}, "in training it looks as far as it has learned to"


def test_a_share_of_the_keys_is_encoded_again_every_ten_steps(
    small_facts: FactTable, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[int, int]] = []
    qa = FactoidQA(small_facts, **SIZES, index="hierarchy")
    due = RollingRenewal.due
    step = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal step
        assert total == 25
        step = done

    def counted(self: RollingRenewal, read: Tensor) -> Tensor:
        cells = due(self, read)
        shares.append((step + 1, len(cells)))
        return cells

    monkeypatch.setattr(RollingRenewal, "due", counted)
    qa.fit(*small_split, quiet=True, on_progress=on_progress, **{**TRAINING, "epochs": 1, "renew_steps": 30})
    assert [at for at, _ in shares] == [10, 20]
    assert all(share == pytest.approx(len(qa.cells) / 3, rel=0.1) for _, share in shares)


@pytest.mark.slow
@pytest.mark.parametrize("importance_weights", [False, True])
def test_a_strategy_gives_the_candidates_and_their_probabilities_to_the_loss(
    importance_weights: bool, small_facts: FactTable, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    drawn: list[Tensor] = []

    def plain(score: Tensor, right: Tensor, ignored: Tensor) -> Tensor:
        counts.append(score.shape[1])
        return marginal_nll(score, right, ignored)

    def corrected(score: Tensor, right: Tensor, probability: Tensor, ignored: Tensor) -> Tensor:
        counts.append(score.shape[1])
        drawn.append(probability)
        return sampled_nll(score, right, probability, ignored)

    monkeypatch.setattr(training, "marginal_nll", plain)
    monkeypatch.setattr(training, "sampled_nll", corrected)
    strategy = "top-k:1+sample-k:1+temperature:4"
    fitted(
        small_facts,
        small_split,
        index=CLUSTER,
        strategy=strategy,
        importance_weights=importance_weights,
        epochs=1,
        batch_size=4,
    )
    assert len(counts) == 200
    assert bool(drawn) is importance_weights
    if drawn:
        assert min(float(part.min()) for part in drawn) < 0.9
        assert all(float(part.max()) == 1 for part in drawn)
    assert len(small_facts) > np.mean(counts) > 40, "whole clusters of 18 cells, not 10 cells per question"


@pytest.mark.slow
def test_other_structures_and_strategies_give_other_models_and_the_seed_the_same(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "a": {"strategy": DRAWN},
        "again": {"strategy": DRAWN},
        "corrected": {"strategy": DRAWN, "importance_weights": True},
        "best": {},
    }
    for name, settings in kinds.items():
        torch.manual_seed(len(name))  # what is drawn outside must not matter
        fitted(small_facts, small_split, tmp_path / name, index=CLUSTER, epochs=1, batch_size=8, **settings)
    assert contents(tmp_path / "a") == contents(tmp_path / "again")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "corrected", "best")]
    assert len(set(weights)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "strategy", "batch_size", "stop_at"),
    [
        ("cluster:num_clusters=60", DRAWN, 8, 37),
        (INDEXES["cluster"], "k-mips", 32, 12),
        (INDEXES["wta-hash"], "k-mips", 32, 17),
        (INDEXES["pca-tree"], "k-mips", 32, 37),
        ("hierarchy:num_groups=30", "k-mips", 32, 37),
    ],
)
def test_an_interrupted_run_ends_with_the_same_bytes_and_the_same_structure(
    index: str,
    strategy: str,
    batch_size: int,
    stop_at: int,
    small_facts: FactTable,
    small_split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An epoch has 25 or 100 steps, and cells are filed again every 10: training stops between two filings,
    before the epoch that is kept ends."""
    monkeypatch.setattr("hmn.qa.training.query_log.ENOUGH", 50)
    settings: dict[str, Any] = {
        "index": index,
        "strategy": strategy,
        "learning_rate": 0.05,
        "batch_size": batch_size,
    }
    fitted(small_facts, small_split, tmp_path / "whole", **settings)
    stepped = Run.stepped

    def interrupted(self: Run, progress: Any, record: Any) -> None:
        stepped(self, progress, record)
        if progress.step == stop_at:
            raise KeyboardInterrupt

    settings["checkpoint_seconds"] = 0.0
    names = ("learning_rate", "batch_size", "checkpoint_seconds")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "stepped", interrupted)
        fitted(small_facts, small_split, tmp_path / "cut", **settings)
    qa = FactoidQA(small_facts, **SIZES, index=index, strategy=strategy)
    rest = {name: settings[name] for name in names}
    qa.fit(*small_split, out=tmp_path / "cut", quiet=True, resume=True, **{**TRAINING, "epochs": 2, **rest})
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_the_structure_of_the_best_epoch_is_the_one_that_stays(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    kept = fitted(small_facts, small_split, tmp_path / "model", index=CLUSTER)
    loaded = FactoidQA.from_pretrained(tmp_path / "model")
    without_folder = fitted(small_facts, small_split, None, index=CLUSTER)
    fresh = make_index(CLUSTER)
    fresh.build(loaded.memory.snapshot())
    wanted = fresh.state_dict(with_keys=False)
    for model in (kept, loaded, without_folder):
        state = model.network.reader.index.state_dict(with_keys=False)
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], value) for name, value in wanted.items())
