"""Curves."""

from __future__ import annotations

from bench.index.report.plots import frontier


def test_frontier_leaves_out_what_another_point_beats() -> None:
    points = [(0.9, 10.0), (0.95, 8.0), (0.94, 7.0), (1.0, 2.0), (0.8, 9.0)]
    assert frontier(points, 1) == [(0.9, 10.0), (0.95, 8.0), (1.0, 2.0)]
    assert frontier(points, -1) == [(1.0, 2.0)]
