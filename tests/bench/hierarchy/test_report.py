"""The page that the benchmark of the hierarchy writes for known curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bench.hierarchy.accuracy import VARIANTS, reads_at
from bench.hierarchy.curve import recall_at
from bench.hierarchy.report import draw, draw_training, markdown
from bench.hierarchy.training import compared
from bench.machine import machine

from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex


def curve(*points: tuple[float, float, float]) -> list[dict[str, Any]]:
    return [
        {
            "value": number,
            "reads": reads,
            "pairs_lost": pairs,
            "facts_lost": facts,
            "pair_accuracy": 0.9,
            "fact_accuracy": 0.8,
            "recall_at_k": 0.7,
        }
        for number, (reads, pairs, facts) in enumerate(points)
    ]


def test_reads_lie_between_the_points_of_a_curve_where_the_worse_loss_crosses() -> None:
    found = curve((100, 4.0, 3.0), (400, 1.0, 2.0), (800, 0.0, 0.5))
    assert reads_at(found, 3.0) == pytest.approx(200)
    assert reads_at(found, 0.5) == 800
    assert reads_at(found, 0.4) is None
    assert reads_at(found, 4.0) == 100


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "verdict"), [(250.0, "**met**"), (310.0, "**missed**")])
def test_the_page_says_whether_the_target_is_met(tmp_path: Path, reads: float, verdict: str) -> None:
    pytest.importorskip("matplotlib")
    curves = {variant.name: curve((10, 50, 50), (9_000, 0.6, 0.6)) for variant in VARIANTS}
    curves[VARIANTS[0].name] = curve((100, 2.0, 2.0), (reads, 0.3, 0.2))
    sizes = {"facts": 81_004, "cells": 89_703, "features": 256, "questions": 10_845, "lessons": 48_737}
    exact = {"pair_accuracy": 0.93, "fact_accuracy": 0.83}
    found = {"exact": exact, "curves": curves, **sizes}
    page = markdown({"accuracy": {**found, "machine": machine()}})
    assert f"Accuracy against reads: {verdict}" in page
    assert f"Measured: {reads:,.0f} reads" in page
    between = 10 * 900 ** (49 / 49.4)
    assert f"| nothing learned | {between:,.0f} | not reached | not reached | not reached |" in page
    draw(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def look(step: int, live: float | None, fresh: float) -> dict[str, Any]:
    sizes = {"groups": 89, "largest_group": 27, "reads": 900.0}
    return {"step": step, "live": [0.5, live, 0.9], "fresh": [0.6, fresh, 0.9], **sizes}


@pytest.mark.parametrize(
    ("pairs", "live", "verdict"),
    [
        (0.93, 0.78, "**met**"),
        (0.92, 0.78, "**missed**"),
        (0.93, 0.76, "**missed**"),
        (0.93, None, "**missed**"),
    ],
)
def test_the_page_says_whether_a_training_kept_its_accuracy_and_its_index_followed(
    tmp_path: Path, pairs: float, live: float | None, verdict: str
) -> None:
    pytest.importorskip("matplotlib")
    found = {
        "pair_accuracy": pairs,
        "fact_accuracy": 0.828,
        "exact": {"pair_accuracy": 0.934, "fact_accuracy": 0.829},
        "reads": 1234.0,
        "asked": 1000,
        "looks": [look(127, 0.7, 0.69), look(254, live, 0.785)],
        "machine": machine(),
    }
    page = markdown({"training": found})
    assert f"Trained end to end: {verdict}" in page
    assert f"| 254 | 89 | 27 | 0.500 | 0.600 | {'–' if live is None else f'{live:.3f}'} | 0.785 |" in page
    draw_training(found, tmp_path / "training.png")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_an_index_is_compared_with_one_rebuilt_at_equal_reads() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, query = (torch.randn(count, 16, generator=generator) for count in (3000, 40))
    index = HierarchicalIndex(100)
    index.build(keys)
    wanted = ExactIndex(keys).search(query, 10).cell
    ends = []
    for index.reach in (30, 220):
        ends.append(float(index.search(query, 10).reads.mean()))
    few, many, beyond = recall_at(index, query, wanted, [int(ends[0]) + 5, int(ends[1]), 100_000])
    assert few is not None and many is not None and few < many
    assert beyond is None
    index.reach = 170
    found = compared(index, keys, query)
    assert found["live"] == found["fresh"], "the same seed and the same keys give the same index"
    assert index.reach == 170
    read = index.search(query, 10).reads.mean()
    assert found["reads"] == pytest.approx(float(read))
