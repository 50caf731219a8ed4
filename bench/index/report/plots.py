"""Curves of queries per second, and of reads, against recall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.index.rounds import Log
from bench.index.systems.base import PackageMissingError, package

COLOURS = {
    "hmn cluster": "#d62728",
    "hmn exact": "#7f2a2a",
    "hmn wta-hash": "#e377c2",
    "hmn pca-tree": "#ff8c69",
    "faiss IVF-Flat": "#1f4fb4",
    "faiss IVF-PQ fast-scan": "#2f9bd8",
    "faiss HNSW": "#7fc4ee",
    "ScaNN": "#2ca02c",
    "ScaNN SOAR": "#0b6623",
    "hnswlib": "#8a8a8a",
    "usearch": "#c09000",
    "LoRANN": "#9467bd",
    "IVF-RaBitQ": "#17a2a2",
    "SymphonyQG": "#0b7a75",
    "faiss IVF-RaBitQ": "#5b7fd0",
    "glass": "#8c564b",
    "NGT": "#bcbd22",
    "SVS": "#444444",
    "hmn hierarchy": "#ff4d4d",
}
"""Colours of the rows: one hue per library, red for our own."""
TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Recalls marked on the axis; the first and the last are its ends."""
ROOM = 1.003
"""Recall at which the stretched axis -log(ROOM - recall) would end; it spreads values close to 1."""
Curve = list[tuple[float, float]]
"""Points of recall and queries per second, or of recall and reads."""


def draw(results: dict[str, Any], folder: Path, log: Log) -> None:
    """Write ``NAME-DATA-256.png``, ``-1.png`` and ``-reads.png`` for each data set."""
    try:
        package("matplotlib", "matplotlib").use("Agg")
    except PackageMissingError as error:
        log(f"no plots: {error}")
        return
    target, name = results["options"]["target"], results["name"]
    for data, found in results["data"].items():
        about, recall = found["about"], f"recall@{found['k']}"
        what = f"{about['title']}: {about['cells']:,} cells, {about['features']} features"
        for batch in ("256", "1"):
            curves = {row: frontier(speeds(sweeps, batch), 1) for row, sweeps in found["sweeps"].items()}
            title = f"Speed against recall, {what}, batch {batch}"
            threads = results["options"]["threads"]
            unit = f"queries per second, {threads} threads (higher is better)"
            _plot(curves, title, unit, recall, target, folder / f"{name}-{data}-{batch}.png")
        curves = {row: frontier(reads(sweeps), -1) for row, sweeps in found["sweeps"].items()}
        unit = f"reads per query, of {about['cells']:,} keys (lower is better)"
        title = f"Reads against recall, {what}"
        _plot(curves, title, unit, recall, target, folder / f"{name}-{data}-reads.png")


def speeds(sweeps: Sequence[dict[str, Any]], batch: str) -> Curve:
    """Recall and queries per second of every point of every build."""
    return [(point["recall"], point["speed"][batch]) for point in _points(sweeps)]


def reads(sweeps: Sequence[dict[str, Any]]) -> Curve:
    """Recall and reads of every point of every build, where they are known."""
    return [(point["recall"], point["reads"]) for point in _points(sweeps) if point["reads"] is not None]


def _points(sweeps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for sweep in sweeps for kind in ("reached", "curve") for point in sweep[kind]]


def frontier(points: Curve, sign: int) -> Curve:
    """Points that no other beats in both values, by recall; ``sign`` is -1 if less is better, else 1."""
    kept: Curve = []
    for recall, value in sorted(points, key=lambda point: (-point[0], -sign * point[1])):
        if not kept or sign * value > sign * kept[-1][1]:
            kept.append((recall, value))
    return kept[::-1]


def _plot(curves: dict[str, Curve], title: str, unit: str, recall: str, target: float, file: Path) -> None:
    pyplot = package("matplotlib.pyplot", "matplotlib")
    figure, axes = pyplot.subplots(figsize=(9.5, 5.6), dpi=130)
    ends: list[tuple[float, float, str]] = []
    for row, curve in curves.items():
        shown = [point for point in curve if point[0] >= TICKS[0]]
        if not shown:
            continue
        ours = row.startswith("hmn")
        style = {"linewidth": 2.6 if row == "hmn cluster" else 1.5, "markersize": 3.5 if ours else 3}
        x, y = zip(*shown, strict=True)
        axes.plot(x, y, marker="o", color=COLOURS.get(row, "black"), zorder=3 if ours else 2, **style)
        ends.append((y[-1], x[-1], row))
    axes.set_yscale("log")
    axes.set_xscale("function", functions=(lambda x: -np.log10(ROOM - x), lambda y: ROOM - 10**-y))
    axes.set_xlim(TICKS[0], TICKS[-1] + 0.0003)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.xaxis.set_minor_locator(package("matplotlib.ticker", "matplotlib").NullLocator())
    axes.axvline(target, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        f"recall {target:g}", (target, 0.01), xytext=(-3, 0), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", rotation=90, fontsize=8, va="bottom", ha="right",
    )  # fmt: skip
    axes.set_xlabel(recall)
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=11)
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if ends:
        _label(axes, ends)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _label(axes: Any, ends: list[tuple[float, float, str]]) -> None:
    """Names beside the right ends of the curves, moved apart where they would overlap."""
    low, high = np.log10(axes.get_ylim())
    ends.sort()
    wanted = np.array([(np.log10(y) - low) / (high - low) for y, _, _ in ends])
    gap = min(0.05, 1 / max(1, len(ends) - 1))
    height = wanted.copy()
    for number in range(1, len(height)):
        height[number] = max(height[number], height[number - 1] + gap)
    height[-1] = min(height[-1], 1.0)
    for number in range(len(height) - 2, -1, -1):
        height[number] = min(height[number], height[number + 1] - gap)
    for (y, x, row), label_height in zip(ends, height, strict=True):
        colour = COLOURS.get(row, "black")
        axes.annotate(
            row, (x, y), xytext=(1.03, label_height), textcoords="axes fraction", color=colour, fontsize=9,
            va="center", fontweight="bold" if row == "hmn cluster" else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.5},
        )  # fmt: skip
