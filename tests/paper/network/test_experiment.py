from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.paper.made import PRESET, made_keys

import hmn.paper.network.checkpoint as checkpoint_module
import hmn.paper.network.evaluation as evaluation_module
import hmn.paper.network.experiment as module
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.paper.cells.fixed import one_per_fact
from hmn.paper.data import Data
from hmn.paper.grid import CLUSTERS, KEYWORDS, SWEPT, TOP_SAMPLE, Row
from hmn.paper.network.experiment import Experiment
from hmn.paper.network.question_hits import unpacked
from hmn.store.bundle import BundleReader

Split = tuple[QuestionSet, QuestionSet]
KMIPS = Row("exact", "table1", "kmips", k=5, also_tested_with=CLUSTERS)
BY_CLUSTERS = replace(KMIPS, name="clusters", index=CLUSTERS, also_tested_with="")


@pytest.fixture
def data(small_facts: FactTable, small_split: Split) -> Data:
    return Data(small_facts, {"train": small_split[0], "valid": small_split[1]})


def experiment(data: Data, row: Row = KMIPS, **settings: Any) -> Experiment:
    preset = replace(PRESET, few_clusters=8, many_clusters=16, **settings.pop("preset", {}))
    return Experiment(row, preset, data, made_keys(data.facts), one_per_fact(data.facts), **settings)


def test_it_learns_and_reports_what_it_cost(data: Data) -> None:
    run = experiment(data).run()
    curve, own = run["curve"], run["tested"]["valid"]["own"]
    assert curve[0]["fact"] < curve[-1]["fact"]
    assert own["fact"] > 0.6, "a guess is right once in 360"
    assert own["fact"] == max(epoch["fact"] for epoch in curve)
    assert own["fact"] == curve[run["epochs_to_best"] - 1]["fact"]
    assert own["pair"] >= own["fact"]
    assert {name: float(unpacked(text).mean()) for name, text in own["hits"].items()} == pytest.approx(
        {name: own[name] for name in ("fact", "pair")}
    )
    assert own["cells_scored"] == len(data.facts)
    assert all(epoch["exact"] == {name: epoch[name] for name in ("fact", "pair")} for epoch in curve)
    assert (own["recall"], own["reads"]) == (1.0, len(data.facts))
    assert run["tested"]["valid"]["exact"] == own
    other = run["tested"]["valid"]["other"]
    assert other["reads"] < 0.3 * len(data.facts)
    assert other["recall"] < 1
    assert run["questions"] == {"natural": 800, "artificial": run["questions"]["artificial"]}
    every = sum(run["questions"].values())
    assert run["steps"] == len(curve) * -(-every // PRESET.batch_size)
    assert 64 <= run["softmax_size"] <= 64 * 6
    assert run["cells"] == [len(data.facts), 48]
    seconds = [epoch["seconds"] for epoch in curve]
    assert seconds == sorted(seconds)
    assert run["seconds_an_epoch"] == pytest.approx(run["seconds_a_step"] * run["steps"] / len(curve))


@pytest.mark.slow
@pytest.mark.parametrize("row", [BY_CLUSTERS, Row("hard", "baselines", "hard")], ids=lambda row: row.name)
def test_a_run_that_was_cut_goes_on_to_the_same_end(
    row: Row, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"preset": {"epochs": 3}}

    def cut(text: str) -> None:
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    whole = experiment(data, row, **settings)
    expected = whole.run()
    with pytest.raises(KeyboardInterrupt):
        experiment(data, row, folder=tmp_path / "run", log=cut, **settings).run()
    lines: list[str] = []
    again = experiment(data, row, folder=tmp_path / "run", log=lines.append, **settings)
    before = again.progress
    monkeypatch.setattr(module, "peak_mib", lambda: 1.0)
    found = again.run()
    assert again.progress is not before
    assert found["build_seconds"] != before.build_seconds, "it is the first process's"
    assert found["peak_mib"] > 1.0, "the process that was cut held more"
    assert lines[0] == "goes on after epoch 2"
    assert torch.equal(again.words.bag.weight, whole.words.bag.weight)
    timeless = [[epoch[name] for name in ("fact", "loss", "softmax_size")] for epoch in found["curve"]]
    assert timeless == [[e[name] for name in ("fact", "loss", "softmax_size")] for e in expected["curve"]]
    assert found["tested"]["valid"]["own"]["tuned"] == expected["tested"]["valid"]["own"]["tuned"]


def test_it_stops_when_patience_ends_and_measures_the_best_epoch(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = evaluation_module.measure
    accuracies = iter([0.3, 0.8, 0.5, 0.6, 0.8, 0.9])
    weights = []

    def measure(*arguments: Any, **settings: Any) -> Any:
        found = measured(*arguments, **settings)
        if settings:
            return found
        weights.append(made.words.bag.weight.detach().clone())
        return replace(found, fact=next(accuracies))

    monkeypatch.setattr(evaluation_module, "measure", measure)
    made = experiment(data, preset={"epochs": 9, "patience": 3})
    run = made.run()
    assert len(run["curve"]) == 5, "an epoch as good as the best is none better"
    assert (run["epochs_to_best"], run["stopped"]) == (2, "patience")
    assert torch.equal(made.words.bag.weight, weights[1])
    assert not torch.equal(weights[1], weights[4])


def test_an_approximate_row_is_validated_under_exact_search_and_its_clock_counts_all_but_that(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    tune, measured = module.Experiment._tune, evaluation_module.measure

    def tuned(self: Experiment, epoch: int) -> None:
        clock[0] += 100.0 if epoch != self._tuned_after else 0.0
        tune(self, epoch)

    def validated(*arguments: Any, **settings: Any) -> Any:
        clock[0] += 10_000.0
        return measured(*arguments, **settings)

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module.Experiment, "_tune", tuned)
    monkeypatch.setattr(evaluation_module, "measure", validated)
    made = experiment(data, BY_CLUSTERS, preset={"epochs": 2})
    made.progress.build_seconds = 7.0
    run = made.run()
    assert [epoch["seconds"] for epoch in run["curve"]] == [207.0, 307.0]
    best = run["curve"][run["epochs_to_best"] - 1]
    exact = run["tested"]["valid"]["exact"]
    assert best["exact"] == {name: exact[name] for name in ("fact", "pair")}
    assert best["exact"]["fact"] >= best["fact"]


def test_strategies_are_also_tested_with_one_common_search_at_the_same_reads(data: Data) -> None:
    row = Row("both", "table2", "kmips", index=CLUSTERS, strategy=TOP_SAMPLE)
    tested = experiment(data, row, preset={"epochs": 1, "strategies_speed_up": 4}).run()["tested"]["valid"]
    assert tested["own"].keys() - {"tuned"} == tested["common"].keys()
    assert tested["common"]["reads"] == pytest.approx(len(data.facts) / 4, rel=0.2)
    assert tested["common"]["recall"] > tested["own"]["recall"], (
        "half of its clusters are drawn, not the best"
    )


def test_a_swept_network_is_searched_by_every_structure(data: Data) -> None:
    run = experiment(data, replace(KMIPS, also_tested_with="", swept=True), preset={"epochs": 2}).run()
    exact = run["tested"]["valid"]["exact"]
    for structure in SWEPT:
        points = [point for point in run["sweep"] if point["structure"] == structure]
        assert len({point["value"] for point in points}) == len(points) > 1
        assert [point["reads"] for point in points] == sorted(point["reads"] for point in points)
        assert points[0]["recall"] < points[-1]["recall"]
        assert all(point["fact"] <= point["pair"] <= 1 for point in points)
        assert points[0]["fact"] <= points[-1]["fact"] + 0.05
        assert points[-1]["fact"] <= exact["fact"] + 0.05


def test_the_keyword_filter_reports_how_many_questions_it_leaves_their_fact(data: Data) -> None:
    made = experiment(data, Row("keywords", "baselines", KEYWORDS), preset={"epochs": 1})
    own = made.run()["tested"]["valid"]["own"]
    texts, fact = data.asked["valid"].text, data.asked["valid"].cell
    found = made.network.attention._filter.facts_for(texts)  # type: ignore[attr-defined]
    covered = [int(fact[row]) in found.row(row).tolist() for row in range(len(texts))]
    assert own["coverage"] == pytest.approx(sum(covered) / len(covered))
    assert own["fact"] <= own["coverage"]


def test_the_best_words_are_written_when_they_change(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, accuracies = evaluation_module.measure, iter([0.5, 0.4, 0.6, 0.1])

    def measure(*arguments: Any, **settings: Any) -> Any:
        found = measured(*arguments, **settings)
        return found if settings else replace(found, fact=next(accuracies))

    written: list[str] = []
    write = checkpoint_module.write_tensors

    def watched(folder: Path, name: str, tensors: Any) -> None:
        written.append(name)
        write(folder, name, tensors)

    monkeypatch.setattr(evaluation_module, "measure", measure)
    monkeypatch.setattr(checkpoint_module, "write_tensors", watched)
    made = experiment(data, folder=tmp_path / "run", preset={"epochs": 4})
    made.run()
    assert [name == checkpoint_module.BEST for name in written] == [False, True, False, False, True, False]
    kept = BundleReader(tmp_path / "run").tensors(checkpoint_module.BEST)["words"]
    assert torch.equal(kept, made.words.bag.weight)
