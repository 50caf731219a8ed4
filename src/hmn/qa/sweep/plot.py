"""The plot of a sweep: accuracy against reads, with a line per structure."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

from hmn.errors import MissingPackageError
from hmn.qa.sweep.figures import Sweep
from hmn.store.atomic import write_atomically

COLOURS = {
    "exact": "#555555",
    "cluster": "#d62728",
    "hierarchy": "#f2b200",
    "cluster, no codes": "#ff8c1a",
    "WTA-Hash": "#b0409a",
    "PCA-Tree": "#8c6d31",
    "faiss IVF": "#1f4fb4",
}
"""Colour of each structure: warm ones for those of this package."""
WIDTH = 190.0
"""Horizontal distance in pixels at which two names overlap."""
HEIGHT = 19.0
"""Vertical distance in pixels at which two names overlap."""


def draw(sweep: Sweep, file: Path) -> None:
    """Write the plot as PNG, completely or not at all.

    Raises:
        MissingPackageError: Matplotlib is not installed.
        BundleError: The file cannot be written.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingPackageError('the figure needs Matplotlib: pip install "hmn[plots]"') from error
    figure = figures.Figure(figsize=(9.5, 5.6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    starts = _draw_curves(axes, sweep)
    _label(axes, sweep)
    # the curves meet at the top, so each has its name where it begins
    axes.margins(x=0.12, y=0.08)
    axes.autoscale_view()
    _name_curves(axes, starts, figure.dpi)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(file, buffer.getvalue())


def _draw_curves(axes: Any, sweep: Sweep) -> list[tuple[float, float, str]]:
    """Draw a line per structure; return the first point and the name of each that is to be named there."""
    starts: list[tuple[float, float, str]] = []
    for curve in sweep.curves:
        shown = [(point.reads, point.accuracy) for point in curve.points if point.reads]
        if not shown:
            continue
        colour = COLOURS.get(curve.structure, "black")
        if curve.setting is None:
            axes.axhline(shown[0][1], color=colour, linewidth=1, linestyle="--", zorder=1)
            _name(axes, curve.structure, (0.005, shown[0][1]), (0, 4), axes.get_yaxis_transform())
        else:
            xs, ys = zip(*shown, strict=True)
            wide = 2.6 if curve.structure == "cluster" else 1.6
            axes.plot(xs, ys, marker="o", markersize=3.5, linewidth=wide, color=colour)
            starts.append((*shown[0], curve.structure))
    return starts


def _label(axes: Any, sweep: Sweep) -> None:
    """Write what the axes show."""
    about = sweep.about
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"reads per question (exact search: {about['cells']:,})")
    axes.set_ylabel("pair_accuracy" if about["facts_known"] else "answer_accuracy")
    axes.set_title(f"{about['questions']:,} questions over {about['cells']:,} cells", fontsize=11)
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _name_curves(axes: Any, starts: list[tuple[float, float, str]], dpi: float) -> None:
    """Write the names from top to bottom, each moved down until it overlaps with none above it."""
    placed: list[tuple[float, float]] = []  # in pixels
    for x, y, name in sorted(starts, key=lambda start: -start[1]):
        pixel_x, pixel_y = (float(pixel) for pixel in axes.transData.transform((x, y)))
        lowered = pixel_y
        for other_x, other_y in sorted(placed, key=lambda position: -position[1]):
            if abs(other_x - pixel_x) < WIDTH and abs(other_y - lowered) < HEIGHT:
                lowered = other_y - HEIGHT
        placed.append((pixel_x, lowered))
        _name(axes, name, (x, y), (-7, (lowered - pixel_y) * 72 / dpi), axes.transData)


def _name(
    axes: Any, name: str, point: tuple[float, float], offset: tuple[float, float], transform: Any
) -> None:
    """Write a structure's name to the left of a point; above it if the offset is not to the left."""
    axes.annotate(
        name,
        point,
        xycoords=transform,
        xytext=offset,
        textcoords="offset points",
        color=COLOURS.get(name, "black"),
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        fontweight="bold" if name == "cluster" else "normal",
        ha="right" if offset[0] < 0 else "left",
        va="center" if offset[0] < 0 else "bottom",
    )
