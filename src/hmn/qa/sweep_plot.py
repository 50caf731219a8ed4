"""The figure of a sweep: accuracy against reads, a line for each structure."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

from hmn.errors import MissingPackageError
from hmn.qa.sweep import Sweep
from hmn.store.atomic import write_atomically

# ours in warm colours, the first thick
COLOURS = {
    "exact": "#555555",
    "cluster": "#d62728",
    "cluster, no codes": "#ff8c1a",
    "WTA-Hash": "#b0409a",
    "PCA-Tree": "#8c6d31",
    "faiss IVF": "#1f4fb4",
}
LOWEST_GAP = 0.05  # between labels, in shares of the axis


def draw(sweep: Sweep, file: Path) -> None:
    """Write the figure as PNG, whole or not at all.

    Raises:
        MissingPackageError: Matplotlib is not installed.
        BundleError: the file cannot be written.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingPackageError('the figure needs Matplotlib: pip install "hmn[plots]"') from error
    about = sweep.about
    figure = figures.Figure(figsize=(9.5, 5.6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    ends: list[tuple[float, str]] = []
    for curve in sweep.curves:
        shown = [(point.reads, point.accuracy) for point in curve.points if point.reads]
        if not shown:
            continue
        colour = COLOURS.get(curve.structure, "black")
        if curve.setting is None:
            axes.axhline(shown[0][1], color=colour, linewidth=1, linestyle="--", zorder=1)
        else:
            x, y = zip(*shown, strict=True)
            wide = 2.6 if curve.structure == "cluster" else 1.6
            axes.plot(x, y, marker="o", markersize=3.5, linewidth=wide, color=colour)
        ends.append((shown[-1][1], curve.structure))
    axes.set_xscale("log")
    axes.set_xlabel(f"reads a question (exact search: {about['cells']:,})")
    axes.set_ylabel("pair_accuracy" if about["facts_known"] else "answer_accuracy")
    axes.set_title(f"{about['questions']:,} questions over {about['cells']:,} cells", fontsize=11)
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(top=axes.get_ylim()[1])
    _label(axes, ends)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(file, buffer.getvalue())


def _label(axes: Any, ends: list[tuple[float, str]]) -> None:
    """Names to the right of the curves' ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ends.sort()
    place = [(y - low) / (high - low) for y, _ in ends]
    for number in range(1, len(place)):
        place[number] = max(place[number], place[number - 1] + LOWEST_GAP)
    over = max(0.0, place[-1] - 1.0) if place else 0.0
    for number in range(len(place) - 1, -1, -1):
        most = 1.0 if number == len(place) - 1 else place[number + 1] - LOWEST_GAP
        place[number] = min(place[number], most) if over else place[number]
    for (y, name), at in zip(ends, place, strict=True):
        colour = COLOURS.get(name, "black")
        axes.annotate(
            name,
            (1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(1.03, at),
            textcoords="axes fraction",
            color=colour,
            fontsize=9,
            va="center",
            fontweight="bold" if name == "cluster" else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.5},
        )
