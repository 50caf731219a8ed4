"""The report's figures, as PNG."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable
from typing import Any

from hmn.errors import MissingPackageError
from hmn.paper.rows import BM25, KEYWORDS, ROWS
from hmn.paper.table import Table

CURVES = ("full softmax", "exact 10-MIPS", "exact 50-MIPS", "exact 100-MIPS", "exact 1000-MIPS")
"""Rows of the paper's figure 1; those of ``MORE`` are drawn thinner."""
MORE = ("clustering", "PCA-Tree", "WTA-Hash")
COLOURS = ("#333333", "#d62728", "#ff8c1a", "#c2a500", "#2a9d8f", "#1f4fb4", "#8c6d31", "#b0409a")
WIDTH, HEIGHT = 9.5, 4.6
READERS = {row.name: row.reader for row in ROWS}


def figures_module() -> Any:
    """Matplotlib's figures.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingPackageError('the report needs Matplotlib: pip install "hmn[paper]"') from error


def draw_curves(table: Table) -> bytes | None:
    """Figure 1: validation accuracy by epochs and by seconds, means over seeds; None without its rows."""
    shown = [name for name in (*CURVES, *MORE) if name in table]
    if not shown:
        return None
    figure = figures_module().Figure(figsize=(WIDTH, HEIGHT), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name in shown:
        colour = COLOURS[(*CURVES, *MORE).index(name)]
        style: dict[str, Any] = {"color": colour, "linewidth": 2.2 if name in CURVES else 1.1, "label": name}
        epochs = common_epochs(table, name)
        fact = [100 * one["fact"] for one in epochs]
        left.plot([one["epoch"] for one in epochs], fact, marker="o", markersize=2.5, **style)
        right.plot([one["seconds"] for one in epochs], fact, marker="o", markersize=2.5, **style)
    for axes, name in ((left, "epochs"), (right, "seconds of training")):
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set_xscale("log")
    _plain(right)
    left.set_ylabel("fact_accuracy on validation, %")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return _png(figure)


def common_epochs(table: Table, name: str) -> list[dict[str, float]]:
    """The curve of a row: means over the seeds, as far as all of them have trained."""
    curves = [run["curve"] for run in table.runs[name]]
    return [
        {key: math.fsum(one[key] for one in epochs) / len(epochs) for key in ("epoch", "fact", "seconds")}
        for epochs in zip(*curves, strict=False)
    ]


def draw_reads(table: Table, title: Callable[[str], str] = str) -> bytes | None:
    """Accuracy against reads at test time, a point for each row and search.

    The keyword filter and BM25 are left out: what they read besides keys is not counted.
    """
    points: list[tuple[float, float, str, bool]] = []
    for name in table.runs:
        if READERS.get(name) in {KEYWORDS, BM25}:
            continue
        for how in ("own", "other"):
            accuracy = table.accuracy(name, how)
            reads = table.mean(name, "tested", table.split, how, "reads")
            if accuracy is None or reads is None or reads.value <= 0:
                continue
            label = title(name) if how == "own" else f"{title(name)}, tested by clusters"
            points.append((reads.value, 100 * accuracy.mean.value, label, how == "own"))
    if not points:
        return None
    figure = figures_module().Figure(figsize=(WIDTH, 1.6 + 0.22 * len(points)), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    points.sort(key=lambda point: point[1])
    # names beside the plot in the order of accuracy, so that points of equal reads do not cover each other
    low, high = points[0][1], points[-1][1]
    step = max(high - low, 1.0) / max(1, len(points) - 1)
    for number, (x, y, label, own) in enumerate(points):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot([x], [y], marker="o" if own else "s", markersize=6, color=colour)
        axes.annotate(
            f"{label}  {y:.1f} %, {x:,.0f} reads",
            (x, y),
            xytext=(1.02, low + number * step),
            textcoords=axes.get_yaxis_transform(),
            fontsize=8,
            color=colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.5,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
    axes.set_xscale("log")
    _plain(axes)
    axes.margins(x=0.15)
    axes.set_xlabel("reads a question")
    axes.set_ylabel(f"fact_accuracy on {table.split}, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _plain(axes: Any) -> None:
    """Numbers, not powers of ten, along a logarithmic axis."""
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("{x:,g}")
    axes.tick_params(axis="x", which="minor", labelsize=7, labelrotation=60)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
