"""A sweep says what a direct evaluation says, and leaves whole files."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.qa.small import SIZES, TRAINING

from hmn.errors import MissingPackageError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import make_index
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.sweep import measure as sweep_module
from hmn.qa.sweep.figures import Curve, Point, Sweep
from hmn.qa.sweep.measure import STRUCTURES, run_sweep
from hmn.qa.sweep.plot import draw

Split = tuple[QuestionSet, QuestionSet]


@pytest.fixture(scope="module")
def qa(small_facts: FactTable, small_split: Split) -> FactoidQA:
    model = FactoidQA(small_facts, **SIZES, index="cluster:num_clusters=9")
    return model.fit(*small_split, quiet=True, **{**TRAINING, "epochs": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep") / "below"


@pytest.fixture(scope="module")
def swept(qa: FactoidQA, small_split: Split, folder: Path) -> Sweep:
    return run_sweep(qa, small_split[1], folder, command="hmn evaluate …")


@pytest.mark.slow
def test_figures_are_those_of_a_direct_evaluation(qa: FactoidQA, swept: Sweep, small_split: Split) -> None:
    own, reader = qa.config, qa.network.reader.index
    names = {curve.structure for curve in swept.curves}
    assert names | swept.skipped.keys() == set(STRUCTURES) and names >= set(STRUCTURES) - {"faiss IVF"}
    asked, k = small_split[1], qa.config.k
    query, keys = qa.encode(asked.text), qa.memory.snapshot()
    best = (query @ keys.T).topk(k, dim=1).values[:, -1:]
    try:
        for curve in swept.curves:
            for point in (curve.points[0], curve.points[-1]):
                found = qa.use_index(point.index).evaluate(asked)
                for name in ("fact_accuracy", "pair_accuracy", "answer_accuracy", "reads", "cells_scored"):
                    assert getattr(point, name) == pytest.approx(getattr(found, name)), (point.index, name)
                index = make_index(point.index)
                index.build(keys)
                hits = (index.search(query, k).score >= best - 1e-5 * best.abs()).float().mean()
                assert point.recall_at_k == pytest.approx(float(hits), abs=1e-6)
    finally:
        qa.use_index(own.index)
    assert (qa.config, type(qa.network.reader.index)) == (own, type(reader))


def test_settings_double_until_all_is_found(swept: Sweep) -> None:
    cells = swept.about["cells"]
    assert swept.curves[0].points[0].reads == cells and swept.curves[0].points[0].recall_at_k == 1
    for curve in swept.curves[1:]:
        values = [point.value for point in curve.points]
        assert values[0] == (swept.about["k"] if curve.setting == "max_candidates" else 1)
        for one, two in pairwise(values):
            assert one is not None and two is not None and one < two <= 2 * one
        reads = [point.reads for point in curve.points]
        # a search that finds fewer than k cells looks again, so the first ones may read more than the next
        rising = reads[reads.index(min(reads)) :]  # type: ignore[type-var]
        assert rising == sorted(rising), "further means more reads"  # type: ignore[type-var]
        assert len(rising) > 2
        assert len(set(reads)) == len(reads)
        last = curve.points[-1]
        if curve.structure != "WTA-Hash":  # in which most cells share no bucket with a query
            assert last.recall_at_k >= 0.9995 or (last.reads or 0) >= cells / 2
        assert all(
            point.recall_at_k < 0.9995 and (point.reads or 0) < cells / 2 for point in curve.points[:-1]
        )


def test_files_say_the_same(swept: Sweep, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.json", "sweep.md"]
    assert json.loads((folder / "sweep.json").read_text()) == swept.as_dict()
    lines = [line for line in (folder / "sweep.md").read_text().splitlines() if line.startswith("| ")]
    count = sum(len(curve.points) for curve in swept.curves)
    assert len(lines) == 1 + count == len(swept.rows()) + 1
    point = swept.curves[1].points[0]
    assert lines[2] == (
        f"| cluster | num_probes=1 | {point.pair_accuracy:.4f} | {point.fact_accuracy:.4f} | "
        f"{point.recall_at_k:.4f} | {point.reads:,.0f} | {swept.about['cells'] / (point.reads or 1):,.1f} | "
        f"{point.cells_scored:,.0f} | {point.queries_per_second:,.0f} |"
    )
    table = swept.table().splitlines()
    assert len(table) == count + 1 and len({len(line) for line in table[1:]}) == 1
    assert "`hmn evaluate …`: 280 questions, 360 cells" in (folder / "sweep.md").read_text()


def test_questions_of_which_only_the_answer_is_known(
    qa: FactoidQA, small_facts: FactTable, small_rows: list[tuple[str, ...]], tmp_path: Path
) -> None:
    asked = QuestionSet.from_rows(small_facts, [(row[3], row[2]) for row in small_rows[800:840]])
    found = run_sweep(qa, asked, tmp_path)
    point = found.curves[0].points[0]
    assert point.pair_accuracy is point.fact_accuracy is None
    assert (
        point.accuracy == point.answer_accuracy == pytest.approx(qa.evaluate(asked).answer_accuracy, abs=0.1)
    )
    assert "# answer_accuracy against reads" in (tmp_path / "sweep.md").read_text()


def test_interrupted_it_leaves_what_was_done(qa: FactoidQA, small_split: Split, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def on_progress(done: int, total: int, current: str) -> None:
        seen.append((current, done, total))
        if current == "WTA-Hash: building":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(qa, small_split[1], tmp_path, on_progress=on_progress)
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert [curve["structure"] for curve in kept["curves"]] == [
        "exact",
        "cluster",
        "hierarchy",
        "cluster, no codes",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.json", "sweep.md"]
    assert seen[0] == ("exact: building", 0, 7) and ("cluster: num_probes=1", 1, 7) in seen


def test_a_structure_that_cannot_be_built_is_skipped_and_named(
    qa: FactoidQA, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sweep_module,
        "STRUCTURES",
        {"exact": "exact", "WTA-Hash": "wta-hash:prefix=60", "faiss IVF": "faiss:Flat"},
    )
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = run_sweep(qa, small_split[1], tmp_path)
    assert [curve.structure for curve in found.curves] == ["exact"]
    assert "prefix is 60" in found.skipped["WTA-Hash"] and "pip install" in found.skipped["faiss IVF"]
    assert "Skipped: faiss IVF: " in (tmp_path / "sweep.md").read_text()


def point(value: int | None, reads: float | None, accuracy: float) -> Point:
    return Point("i", value, accuracy, accuracy, accuracy, 1.0, reads, 9.0, 100.0)


def test_the_figure_has_a_line_and_a_name_for_each_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    made: list[Any] = []

    class Kept(figures.Figure):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            made.append(self)

    monkeypatch.setattr(figures, "Figure", Kept)
    about = {"cells": 5000, "questions": 7, "facts_known": True}
    curves = [
        Curve("exact", None, 0.0, [point(None, 5000.0, 0.9)]),
        Curve("cluster", "num_probes", 0.1, [point(1, 50.0, 0.5), point(2, 80.0, 0.8)]),
        Curve("PCA-Tree", "num_leaves", 0.1, [point(1, 52.0, 0.51), point(2, 300.0, 0.7)]),
        Curve("unknown reads", "ef_search", 0.1, [point(1, None, 0.5)]),
    ]
    draw(Sweep(about, curves), tmp_path / "new" / "sweep.png")
    assert (tmp_path / "new" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    axes = made[0].axes[0]
    exact, cluster, tree = axes.lines
    assert list(exact.get_ydata()) == [0.9, 0.9]
    assert (list(cluster.get_xdata()), list(cluster.get_ydata())) == ([50.0, 80.0], [0.5, 0.8])
    assert (list(tree.get_xdata()), list(tree.get_ydata())) == ([52.0, 300.0], [0.51, 0.7])
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "reads per question (exact search: 5,000)",
        "pair_accuracy",
    )
    assert [text.get_text() for text in axes.texts] == ["exact", "PCA-Tree", "cluster"]
    boxes = [text.get_window_extent() for text in axes.texts]
    apart = all(not one.overlaps(two) for at, one in enumerate(boxes) for two in boxes[:at])
    assert apart, "names do not overlap"


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r'pip install "hmn\[plots\]"'):
        draw(Sweep({}), tmp_path / "sweep.png")


def test_unknown_reads_are_no_number(qa: FactoidQA, small_split: Split) -> None:
    measure = sweep_module.Measure(qa, small_split[1], qa.encode(small_split[1].text), 5)

    class Unknowing:
        def search(self, query: torch.Tensor, k: int) -> Any:
            found = make_index("exact")
            found.build(qa.memory.snapshot())
            result = found.search(query, k)
            return result._replace(reads=torch.full_like(result.reads, math.nan))

        def __len__(self) -> int:
            return len(qa.cells)

    assert measure(Unknowing(), "x", 1).reads is None  # type: ignore[arg-type]
