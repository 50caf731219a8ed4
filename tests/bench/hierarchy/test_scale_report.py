"""The benchmark of the hierarchy's speed, growth and live writes, over small memories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.hierarchy.report import markdown
from bench.hierarchy.scale_report import draw_growth, ratios
from bench.hierarchy.speed import Layer, Stepped
from bench.machine import machine

from bench.hierarchy import growth, speed, writes
from hmn.index.structures.hierarchy.index import HierarchicalIndex


def log(_: str) -> None:
    return


def test_a_training_takes_one_step_when_it_is_asked_and_ends_in_the_middle() -> None:
    taken: list[int] = []

    def fit(on_progress: Callable[[int, int], None]) -> None:
        for step in range(100):
            taken.append(step)
            on_progress(step, 100)

    training = Stepped(fit)
    assert taken == []
    assert training.step() > 0
    assert taken == [0]
    training.step()
    assert taken == [0, 1]
    training.end()
    assert taken == [0, 1]
    ended = Stepped(lambda _: None)
    with pytest.raises(RuntimeError, match="ended"):
        ended.step()


def test_the_index_of_a_layer_follows_its_training() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(600, 8, generator=generator)
    query = torch.randn(64, 8, generator=generator)
    target = torch.randint(600, (64,), generator=generator)
    index = HierarchicalIndex(20)
    index.build(keys)
    ours, full = Layer(keys, index), Layer(keys.clone(), None)
    for layer in (ours, full):
        before = layer.memory.keys.detach().clone()
        step, upkeep = layer.step(query, target, query)
        assert 0 <= upkeep < step
        moved = (layer.memory.keys != before).any(dim=1)
        assert bool(moved[target].all()) and (moved.sum() < 600) == (layer is ours)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (growth, speed, writes):
        monkeypatch.setattr(module, "FEATURES", 16)
        monkeypatch.setattr(module, "CLUSTER", 50)
    monkeypatch.setattr(speed, "QUERIES", 2048)
    monkeypatch.setattr(speed, "SETTLED", 20)
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(growth, "SECONDS", 0.01)
    for name, value in {"CELLS": 2000, "WRITES": 60, "SEARCHES": 3, "ASKED": 100, "QUERIES": 2048}.items():
        monkeypatch.setattr(writes, name, value)


@pytest.mark.usefixtures("small")
def test_a_stored_memory_is_stepped_and_compared_with_an_index_rebuilt() -> None:
    found = speed._of_memory(3000, log)
    assert found["cells"] == 3000
    assert found["times"] == pytest.approx(found["softmax_ms"] / found["ours_ms"])
    assert 0 < found["upkeep_share"] < 1
    assert 0.1 < found["moved"] <= 1
    assert min(found["recall"].values()) > 0.8 > abs(found["recall"]["followed"] - found["recall"]["anew"])


@pytest.mark.usefixtures("small")
def test_systems_are_built_over_data_on_disk_and_the_keys_may_stay_there(tmp_path: Path) -> None:
    growth.make(4000, tmp_path / "data")
    made = (tmp_path / "data" / "keys.npy").stat().st_mtime_ns
    growth.make(4000, tmp_path / "data")
    assert (tmp_path / "data" / "keys.npy").stat().st_mtime_ns == made
    threads = torch.get_num_threads()
    ours = growth.Grown("hierarchy", tmp_path / "data", threads)
    found = ours.build()
    assert found["cells"] == 4000 and found["recall"] > 0.8 and found["reads"] < 4000
    assert ours.query_ms(4)["batch"] == 4
    ours.save(tmp_path / "bundle")  # before the training moves the keys
    assert (ours.step_ms() or 0) > 0
    reach = int(found["setting"].removeprefix("reach="))
    mapped = growth.Mapped(tmp_path / "data", tmp_path / "bundle", reach, threads).search()
    assert mapped["recall"] == pytest.approx(found["recall"], abs=0.01)
    full = growth.Grown("full softmax", tmp_path / "data", threads)
    assert full.build()["cells"] == 4000
    assert full.query_ms(4)["ms"] > 0 and (full.step_ms() or 0) > 0


@pytest.mark.usefixtures("small")
def test_full_softmax_asks_fewer_at_once_where_scores_would_be_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth.make(500, tmp_path)
    full = growth.Grown("full softmax", tmp_path, torch.get_num_threads())
    full.build()
    monkeypatch.setattr(growth, "SOFTMAX_BYTES", 5 * 4 * 500)
    assert full.query_ms(growth.BATCH)["batch"] == 5
    assert full.step_ms() is None


@pytest.mark.usefixtures("small")
def test_searches_between_writes_are_compared_with_the_memory_of_that_moment() -> None:
    found = writes._run(4, log)
    assert len(found["looks"]) == 3
    assert min(found["least"]) > 0.85
    assert found["cells_a_second"] > 0


@pytest.mark.usefixtures("small")
def test_an_index_that_keeps_removed_cells_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HierarchicalIndex, "remove", lambda _self, _cells: None)
    monkeypatch.setattr(writes, "WRITES", 300)
    with pytest.raises(AssertionError, match="removed"):
        writes._run(4, log)


def row(cells: int, query: float, step: float | None, **more: Any) -> dict[str, Any]:
    times = [{"ms": query, "batch": 1}, {"ms": 1.1 * query, "batch": 1}]
    steps = [step, None if step is None else 1.1 * step]
    return {"cells": cells, "query": {"1": times, "128": times}, "step_ms": steps, **more}


@pytest.mark.parametrize(
    ("last", "anonymous", "growing", "fits"), [(3.0, 900, True, True), (3.6, 4000, False, False)]
)
def test_the_page_says_how_times_grow(
    tmp_path: Path, last: float, anonymous: float, growing: bool, fits: bool
) -> None:
    pytest.importorskip("matplotlib")
    held = {"recall": 0.9, "reads": 800.0, "setting": "reach=90"}
    mapped = {"anonymous_mib": anonymous, "files_mib": 4000.0, "recall": 0.9}
    sizes = {"build_mib": 9000.0, "build_seconds": 90.0, "keys_mib": 4882.0, "searching_mib": 7000.0}
    ours = [row(1000, 1.0, 5.0, **held), row(10_000, last, 10.0, **held, **sizes, mapped=mapped)]
    softmax = [row(1000, 2.0, 50.0), row(10_000, 20.0, None)]
    found = {
        "systems": {"hierarchy": ours, "full softmax": softmax},
        **{"batch": 128, "k": 10, "features": 16, "recall": 0.9, "cluster": 500, "rounds": 2, "seed": 0},
    }
    assert ratios(ours, "1") == pytest.approx([last])
    assert ratios(softmax, "step") == []
    page = markdown({"growth": {**found, "machine": machine()}})
    assert f"## Growth: {'**met**' if growing else '**missed**'}" in page
    assert f"## Memory: {'**met**' if fits else '**missed**'}" in page
    assert "| full softmax | 10.00 | 10.00 | – |" in page
    draw_growth(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("times", "share", "met"), [(120.0, 0.05, True), (90.0, 0.05, False), (120.0, 0.2, False)]
)
def test_the_page_says_how_long_a_step_takes(times: float, share: float, met: bool) -> None:
    figures = {
        "ours_ms": 30.0,
        "softmax_ms": 30 * times,
        "times": times,
        "upkeep_ms": 3.0,
        "upkeep_share": share,
    }
    stored = {**figures, "name": "generated", "reads": {"followed": 900, "anew": 901}}
    stored |= {"recall": {"followed": 0.91, "anew": 0.92}, "moved": 0.07}
    rows = [{**figures, "name": "hmn train", "cells": 81_004}, {**stored, "cells": 1_000_000}]
    sizes = {"rounds": 8, "steps": 20, "batch": 128, "k": 10, "refiled": 128, "settled": 640}
    page = markdown({"speed": {"rows": rows, **sizes, "machine": machine()}})
    assert f"## A training step: {'**met**' if met else '**missed**'}" in page


@pytest.mark.parametrize(
    ("after", "rate", "met"), [(0.95, 30_000, True), (0.93, 30_000, False), (0.95, 9_000, False)]
)
def test_the_page_says_whether_searches_see_what_is_written(after: float, rate: float, met: bool) -> None:
    run = {"size": 16, "cells_a_second": rate, "ms_a_call": 0.5, "reads": 800.0, "reads_after": 801.0}
    run |= {"untouched": [0.95, 0.95], "mean": [0.96, after], "least": [0.93, 0.92]}
    sizes = {"cells": 100, "features": 16, "k": 10, "writes": 10_000, "searches": 50, "asked": 512, "seed": 0}
    page = markdown({"writes": {"runs": [run], **sizes, "machine": machine()}})
    assert f"## Live writes: {'**met**' if met else '**missed**'}" in page
