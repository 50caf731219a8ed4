"""The benchmark of the hierarchy: what its page says of curves that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.dynamic.accuracy import VARIANTS, reads_at
from bench.dynamic.report import draw, markdown
from bench.machine import machine


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


@pytest.mark.parametrize(("reads", "verdict"), [(1000.0, "**met**"), (2000.0, "**missed**")])
def test_the_page_says_whether_the_target_is_met(tmp_path: Path, reads: float, verdict: str) -> None:
    pytest.importorskip("matplotlib")
    curves = {variant.name: curve((10, 50, 50), (9_000, 0.6, 0.6)) for variant in VARIANTS}
    curves[VARIANTS[0].name] = curve((100, 2.0, 2.0), (reads, 0.5, 0.4))
    sizes = {"facts": 81_004, "cells": 89_703, "features": 256, "questions": 10_845, "lessons": 48_737}
    exact = {"pair_accuracy": 0.93, "fact_accuracy": 0.83}
    found = {"exact": exact, "curves": curves, **sizes}
    page = markdown({"machine": machine(), "accuracy": found})
    assert f"Accuracy against reads: {verdict}" in page
    assert f"Measured: {reads:,.0f} reads" in page
    between = 10 * 900 ** (49 / 49.4)
    assert f"| nothing learned | {between:,.0f} | not reached | not reached |" in page
    draw(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
