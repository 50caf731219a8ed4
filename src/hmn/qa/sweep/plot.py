"""The figure of a sweep: accuracy against reads, a line for each structure."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

from hmn.errors import MissingPackageError
from hmn.qa.sweep.figures import Sweep
from hmn.store.atomic import write_atomically

# ours in warm colours, the first thick
COLOURS = {
    "exact": "#555555",
    "cluster": "#d62728",
    "hierarchy": "#f2b200",
    "cluster, no codes": "#ff8c1a",
    "WTA-Hash": "#b0409a",
    "PCA-Tree": "#8c6d31",
    "faiss IVF": "#1f4fb4",
}
WIDTH, HEIGHT = 190.0, 19.0  # of a name, in pixels: names that are nearer than this move apart


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
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"reads a question (exact search: {about['cells']:,})")
    axes.set_ylabel("pair_accuracy" if about["facts_known"] else "answer_accuracy")
    axes.set_title(f"{about['questions']:,} questions over {about['cells']:,} cells", fontsize=11)
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    # the curves meet at the top, so each has its name where it begins
    axes.margins(x=0.12, y=0.08)
    axes.autoscale_view()
    placed: list[tuple[float, float]] = []
    for x, y, name in sorted(starts, key=lambda start: -start[1]):
        at_x, at_y = (float(one) for one in axes.transData.transform((x, y)))
        down = at_y
        for other_x, other_y in sorted(placed, key=lambda place: -place[1]):
            if abs(other_x - at_x) < WIDTH and abs(other_y - down) < HEIGHT:
                down = other_y - HEIGHT
        placed.append((at_x, down))
        _name(axes, name, (x, y), (-7, (down - at_y) * 72 / figure.dpi), axes.transData)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(file, buffer.getvalue())


def _name(axes: Any, name: str, at: tuple[float, float], offset: tuple[float, float], place: Any) -> None:
    """Write a structure's name beside a point, to its left but for that of a line over the whole width."""
    axes.annotate(
        name,
        at,
        xycoords=place,
        xytext=offset,
        textcoords="offset points",
        color=COLOURS.get(name, "black"),
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        fontweight="bold" if name == "cluster" else "normal",
        ha="right" if offset[0] < 0 else "left",
        va="center" if offset[0] < 0 else "bottom",
    )
