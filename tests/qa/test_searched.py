"""Models that search with any structure: trained, resumed, saved, and searched with another."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.qa.small import SIZES, TRAINING
from torch import Tensor

import hmn.index.structures.cluster
from hmn.errors import BundleError, ConfigError, NotFittedError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.loss import marginal_nll, sampled_nll
from hmn.nn.memory.renewal import RollingRenewal
from hmn.qa.config import ModelConfig
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome
from hmn.qa.training import trainer as training
from hmn.qa.training.run_folder import Run
from hmn.store.bundle import writing_bundle

Split = tuple[QuestionSet, QuestionSet]
CLUSTER = "cluster:num_clusters=20,num_probes=6"
DRAWN = "k-mips+top-k:1+sample-k:2+rand-block:20"
INDEXES = {
    "cluster": CLUSTER,
    "cluster without codes": CLUSTER + ",codes=none",
    "hierarchy": "hierarchy:num_groups=5x30,reach=150",
    "wta-hash": "wta-hash:num_tables=24,num_permutations=2,prefix=4,num_probes=2",
    "pca-tree": "pca-tree:leaf_size=16,num_leaves=8",
    "faiss": "faiss:IVF10,Flat,num_probes=5",
}


def index_named(name: str) -> str:
    if name == "faiss" and importlib.util.find_spec("faiss") is None:
        pytest.skip("faiss is not installed")
    return INDEXES[name]


def contents(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def fitted(facts: FactTable, split: Split, out: Path | None = None, **settings: Any) -> FactoidQA:
    model = {name: value for name, value in settings.items() if name in ("index", "strategy", "k")}
    rest = {name: value for name, value in settings.items() if name not in model}
    qa = FactoidQA(facts, **SIZES, **model)
    return qa.fit(*split, out=out, quiet=True, **{**TRAINING, "epochs": 2, **rest})


@pytest.fixture(scope="module")
def qa(small_facts: FactTable, small_split: Split) -> FactoidQA:
    """Trained through clusters."""
    return fitted(small_facts, small_split, index=CLUSTER, strategy="top-k:1+sample-k:2")


@pytest.fixture
def saved(qa: FactoidQA, tmp_path: Path) -> Path:
    qa.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def figures(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.as_dict().items() if name != "queries_per_second"}


@pytest.mark.parametrize("name", INDEXES)
def test_training_through_any_structure_learns_as_much(
    name: str, small_facts: FactTable, small_split: Split
) -> None:
    qa = fitted(small_facts, small_split, index=index_named(name))
    found = qa.evaluate(small_split[1])
    assert found.pair_accuracy is not None and found.pair_accuracy > 0.9
    assert found.reads < len(qa.cells), "the model's own index was asked, which reads a part"
    assert qa.evaluate(small_split[1]).cells_scored == found.cells_scored


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
        assert min(float(one.min()) for one in drawn) < 0.9 and all(float(one.max()) == 1 for one in drawn)
    assert len(small_facts) > np.mean(counts) > 40, "whole clusters of 18 cells, not 10 cells a question"


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


@pytest.mark.parametrize(
    ("index", "strategy", "batch_size", "stop_at"),
    [
        ("cluster:num_clusters=60", DRAWN, 8, 37),
        (INDEXES["cluster"], "k-mips", 32, 12),
        (INDEXES["wta-hash"], "k-mips", 32, 17),
        (INDEXES["pca-tree"], "k-mips", 32, 37),
        ("hierarchy:num_groups=5x30", "k-mips", 32, 37),
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
    """There are 25 or 100 steps an epoch, and cells are filed again every 10: it stops between these,
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


def test_a_loaded_model_searches_the_structure_that_was_saved(
    qa: FactoidQA, saved: Path, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **settings: Any) -> Tensor:  # noqa: ARG001
        raise AssertionError("k-means once more")

    monkeypatch.setattr(hmn.index.structures.cluster, "kmeans", refused)
    again = FactoidQA.from_pretrained(saved)
    with pytest.raises(AssertionError, match="once more"):
        make_index(CLUSTER).build(qa.memory.snapshot())
    query = qa.encode(small_split[1].text)
    one, two = (model.network.reader.index.search(query, 30) for model in (qa, again))
    assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))
    keys, state = load_file(saved / "memory.safetensors")["keys"], load_file(saved / "index.safetensors")
    assert "rows.keys" not in state
    assert not any(value.shape == keys.shape and value.is_floating_point() for value in state.values())
    assert figures(again.evaluate(small_split[1])) == figures(qa.evaluate(small_split[1]))
    assert again.ask_all(small_split[1].text[:20]) == qa.ask_all(small_split[1].text[:20])
    assert (again.config.index, again.config.strategy) == (CLUSTER, "top-k:1+sample-k:2")


def test_the_keys_are_there_once(saved: Path) -> None:
    again = FactoidQA.from_pretrained(saved)
    index: Any = again.network.reader.index
    assert index._rows.keys.data_ptr() == again.memory.snapshot().data_ptr()


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


def test_another_index_over_the_same_memory(saved: Path, small_split: Split, tmp_path: Path) -> None:
    qa = FactoidQA.from_pretrained(saved)
    own, cells = qa.evaluate(small_split[1]), len(qa.cells)
    exact = qa.use_index("exact").evaluate(small_split[1])
    assert exact.reads == exact.cells_scored == cells > own.reads
    assert isinstance(qa.network.reader.index, ExactIndex)
    assert qa.config.strategy == "k-mips", "exact search has no clusters to train with"
    fewer = qa.use_index("cluster:num_clusters=20,num_probes=1").evaluate(small_split[1])
    assert fewer.reads < own.reads
    qa.save_pretrained(tmp_path / "other")
    again = FactoidQA.from_pretrained(tmp_path / "other")
    assert again.config.index == "cluster:num_clusters=20,num_probes=1"
    assert figures(again.evaluate(small_split[1])) == figures(fewer)
    given = FactoidQA.from_pretrained(saved, index="cluster:num_clusters=20,num_probes=1")
    assert figures(given.evaluate(small_split[1])) == figures(fewer)


def test_reads_are_those_of_reading_k_cells(saved: Path, small_split: Split) -> None:
    """Ranks need a deeper search, which scores more cells in full and is not what a question costs."""
    qa = FactoidQA.from_pretrained(saved, index="cluster:num_clusters=20,num_probes=20")
    found = qa.evaluate(small_split[1])
    wanted = qa.network.reader.index.search(qa.encode(small_split[1].text), qa.config.k)
    assert found.cells_scored == 2 * qa.config.k + 16 == float(wanted.cells_scored[0])
    assert found.reads == pytest.approx(float(wanted.reads.mean()))
    exact = FactoidQA.from_pretrained(saved, index="exact").evaluate(small_split[1])
    assert found.mrr == pytest.approx(exact.mrr) and found.fact_accuracy == exact.fact_accuracy


def test_questions_for_which_nothing_is_found_count_as_wrong(saved: Path, small_split: Split) -> None:
    """Buckets of so many places are empty for most questions; unused places are no facts."""
    qa = FactoidQA.from_pretrained(saved, index="wta-hash:num_tables=1,num_permutations=8,prefix=16")
    outcomes: list[Outcome] = []
    found = qa.evaluate(small_split[1], outcomes=outcomes)
    cells = qa.network.reader.index.search(qa.encode(small_split[1].text), 1).cell[:, 0]
    empty = [one for one, cell in zip(outcomes, cells.tolist(), strict=True) if cell < 0]
    assert empty
    assert all(
        (one.fact, one.pair, one.answer, one.recalled, len(one.best)) == (0, 0, 0, 0, 0) for one in empty
    )
    assert found.fact_accuracy is not None and found.fact_accuracy <= 1 - len(empty) / len(outcomes)
    nothing = small_split[1].text[int((cells < 0).nonzero()[0])]
    assert qa.ask(nothing) == []


def test_a_strategy_at_test_time_reads_its_candidates(saved: Path, small_split: Split) -> None:
    qa = FactoidQA.from_pretrained(saved, strategy="top-k:1+sample-k:1")
    searcher = qa.network.reader.searcher
    assert isinstance(searcher, StrategySearch)
    found, whole = qa.evaluate(small_split[1]), len(qa.cells)
    assert 20 < found.reads < whole and found.reads == pytest.approx(found.cells_scored + 20)
    assert figures(qa.evaluate(small_split[1])) == figures(found), "drawn again, the same"
    together = qa.ask_all(small_split[1].text[:8])
    for text, answers in zip(small_split[1].text, together, strict=False):
        assert [one.facts for one in qa.ask(text)] == [one.facts for one in answers], "alone, the same"
    everything = qa.use_index(strategy="top-k:20").evaluate(small_split[1])
    exact = FactoidQA.from_pretrained(saved, index="exact").evaluate(small_split[1])
    assert everything.cells_scored == whole and everything.fact_accuracy == exact.fact_accuracy
    plain = qa.use_index(strategy="k-mips")
    assert plain.network.reader.searcher is plain.network.indexed


def test_an_index_or_strategy_that_cannot_be_is_refused(
    qa: FactoidQA, saved: Path, small_facts: FactTable
) -> None:
    qa = FactoidQA.from_pretrained(saved)
    for index, strategy, message in [
        ("clusters", None, "there is no index 'clusters'"),
        ("cluster:codes=int3", None, "codes is 'int3'"),
        ("exact", "top-k:2", "needs an index of clusters, got ExactIndex"),
        (None, "top:2", "unknown part 'top'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            qa.use_index(index, strategy)
        assert qa.config.index == CLUSTER and len(qa.network.reader.searcher) == len(qa.cells)
    with pytest.raises(NotFittedError):
        FactoidQA(small_facts).use_index("cluster")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index": "tree"}, "there is no index 'tree', expected one of exact, cluster"),
        ({"index": "cluster:colour=3"}, "cluster has no setting 'colour'"),
        ({"strategy": "top-k:4"}, r"strategy top-k:4 needs an index of clusters, got ExactIndex"),
        ({"strategy": "sample-k:4", "index": "pca-tree"}, "needs an index of clusters, got PCATreeIndex"),
        ({"strategy": "top-k", "index": "cluster"}, "top-k has the number ''"),
        ({"index": "cluster", "reader": "softmax"}, "index is 'cluster' but reader is 'softmax'"),
        ({"strategy": "k-mips:4", "reader": "softmax"}, "strategy is 'k-mips:4' but reader is 'softmax'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)  # type: ignore[arg-type]


def test_the_strategy_of_a_model_has_its_k(small_facts: FactTable, small_split: Split) -> None:
    qa = fitted(small_facts, small_split, index="cluster", strategy="k-mips+rand-block:9", k=4, epochs=1)
    assert qa.network.reader.strategy == Strategy(best_cells=4, rand_block=9)  # type: ignore[attr-defined]
