"""The report's figures, as PNG."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hmn.errors import MissingPackageError
from hmn.paper.grid import BM25, KEYWORDS, ROWS
from hmn.paper.verdicts.compared import (
    BY_CLUSTERS,
    FAMILIES,
    FAMILIES_AT_SPEED_UP,
    FILTER,
    OURS,
    OURS_AT_A_TENTH,
    SMALLER_K,
    SOFTMAX,
    STRATEGIES,
    TEN,
    TWO_LEVELS,
)
from hmn.paper.verdicts.table import Table, validation

GROUPS: Mapping[str, Sequence[str]] = {
    "exact search in training": (SOFTMAX, "exact 1-MIPS", *SMALLER_K),
    "approximate search in training": (SOFTMAX, TWO_LEVELS, *FAMILIES, BY_CLUSTERS, FILTER),
    "approximate search in training, with more reads": (SOFTMAX, *FAMILIES_AT_SPEED_UP),
    "strategies": STRATEGIES,
    "10-MIPS by the paper's clusters and by hmn's": (TEN, BY_CLUSTERS, OURS, OURS_AT_A_TENTH),
}
"""Rows of figure 1, which are those that claims are judged by, by panel."""
COLOURS = ("#333333", "#d55e00", "#e69f00", "#009e73", "#56b4e9", "#0072b2", "#cc79a7", "#8c6d31")
"""Colours of lines, in order; the first is that of the full softmax."""
WIDTH = 10.5
"""Width of every figure, in inches."""
HEIGHT = 3.1
"""Height of a row of panels, in inches."""
LEGEND = 4
"""Entries per line of the legend above panels."""
DOTS = 30
"""Upper limit of epochs that are each drawn as a dot on their line."""
READERS = {row.name: row.reader for row in ROWS}
"""Readers by the names of their rows."""


def figures_module() -> Any:
    """Matplotlib's figures.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingPackageError('the report needs Matplotlib: pip install "hmn[paper]"') from error


def draw_curves(table: Table, title: Callable[[str], str] = str) -> bytes | None:
    """Figure 1: validation accuracy under exact search by epochs and by seconds; None without its rows.

    Args:
        table: all runs.
        title: gives the name of a row that is shown.
    """
    groups = {
        group: [name for name in names if name in table]
        for group, names in GROUPS.items()
        if any(name in table for name in names if name != SOFTMAX or group == next(iter(GROUPS)))
    }
    if not groups:
        return None
    figure = _figure(HEIGHT * len(groups) + 0.3)
    panels = figure.subplots(len(groups), 2, sharex="col", sharey="row", squeeze=False)
    for (left, right), (group, names) in zip(panels, groups.items(), strict=True):
        for number, name in enumerate(names):
            style = {"color": COLOURS[number % len(COLOURS)], "label": title(name)}
            if group == "strategies":
                style |= {"color": COLOURS[number // 2], "linestyle": "-" if "many" in name else "--"}
            for axes, clock in ((left, "epoch"), (right, "seconds")):
                _curve(axes, table, name, clock, style)
        left.set_title(group, loc="left", fontsize=10, fontweight="bold")
        left.set_ylabel("fact_accuracy on validation, %")
        right.legend(
            loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8.5, frameon=False, handlelength=3.5
        )  # long enough for dashes beside the dot
        for axes in (left, right):
            _tidy(axes)
            axes.tick_params(labelbottom=True)
    panels[-1][0].set_xlabel("epochs")
    panels[-1][1].set_xlabel("seconds of building, tuning and training")
    panels[-1][0].xaxis.get_major_locator().set_params(integer=True)
    panels[-1][1].set_xscale("log")
    _plain(panels[-1][1])
    return _png(figure)


def _curve(axes: Any, table: Table, name: str, clock: str, style: Mapping[str, Any]) -> None:
    runs = table.runs[name]
    mean = common_epochs(table, name)
    dots = {"marker": "o", "markersize": 2.5} if len(mean) <= DOTS else {}
    axes.plot(
        [point[clock] for point in mean],
        [100 * point["fact"] for point in mean],
        **style,
        **dots,
        linewidth=1.8,
    )
    if len(runs) > 1:
        for run in runs:
            axes.plot(
                [epoch[clock] for epoch in run["curve"]],
                [100 * validation(epoch) for epoch in run["curve"]],
                color=style["color"],
                linewidth=0.6,
                alpha=0.45,
            )


def common_epochs(table: Table, name: str) -> list[dict[str, float]]:
    """The curve of a row under exact search: means over the seeds, up to the last epoch that all reached."""
    curves = [
        [(float(epoch["epoch"]), validation(epoch), float(epoch["seconds"])) for epoch in run["curve"]]
        for run in table.runs[name]
    ]
    return [
        dict(
            zip(
                ("epoch", "fact", "seconds"),
                (math.fsum(column) / len(epochs) for column in zip(*epochs, strict=True)),
                strict=True,
            )
        )
        for epochs in zip(*curves, strict=False)
    ]


def draw_reads(table: Table) -> bytes | None:
    """Accuracy against reads: a panel for each row's network, a line for each structure and seed."""
    networks = [name for name in table.runs if all(run.get("sweep") for run in table.runs[name])]
    if not networks:
        return None
    structures = list(
        dict.fromkeys(
            point["structure"] for name in networks for run in table.runs[name] for point in run["sweep"]
        )
    )
    across = min(3, len(networks))
    down = math.ceil(len(networks) / across)
    figure = _figure(HEIGHT * down + 0.6)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(networks) :]:
        axes.set_visible(False)
    for number, (axes, name) in enumerate(zip(panels, networks, strict=False)):
        for structure in structures:
            colour = COLOURS[1 + structures.index(structure) % (len(COLOURS) - 1)]
            for run in table.runs[name]:
                line = swept(run, structure)
                if line:
                    reads, facts = zip(*line, strict=True)
                    axes.plot(reads, facts, marker=".", linewidth=1.3, color=colour, label=structure)
        for run in table.runs[name]:
            _reported(axes, run)
        axes.set_title(f"trained: {name}", loc="left", fontsize=10)
        axes.tick_params(labelbottom=True)
        _tidy(axes)
        if number % across == 0:
            axes.set_ylabel("fact_accuracy on validation, %")
        if number + across >= len(networks):
            axes.set_xlabel("reads per question")
    panels[0].set_xscale("log")
    for axes in panels[: len(networks)]:
        _plain(axes)
    _legend(figure, panels)
    return _png(figure)


def _legend(figure: Any, panels: Any) -> None:
    """One legend for all panels, above them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=LEGEND,
        fontsize=9,
        frameon=False,
    )


def swept(run: Mapping[str, Any], structure: str) -> list[tuple[float, float]]:
    """Reads and accuracy in per cent of a run's network with a structure, from few reads to many.

    Seeds are not averaged, because their networks allow different numbers of reads.
    """
    points = [point for point in run["sweep"] if point["structure"] == structure]
    return sorted((point["reads"], 100 * point["fact"]) for point in points)


def _reported(axes: Any, run: Mapping[str, Any]) -> None:
    """Mark the figures of a run that enter the tables: exact search as a level, the others as points."""
    tested = run["tested"]["valid"]
    exact = tested.get("exact")
    if exact is not None:
        axes.axhline(100 * exact["fact"], color="#333333", linestyle="--", linewidth=1, label="exact search")
    for how, label, marker in (("own", "own search", "o"), ("other", "by clusters", "s")):
        figures = tested.get(how)
        if figures is not None and (exact is None or figures["fact"] != exact["fact"]):
            axes.plot(
                [figures["reads"]],
                [100 * figures["fact"]],
                marker=marker,
                markersize=7,
                color="none",
                markeredgecolor="#333333",
                markeredgewidth=1.4,
                linestyle="none",
                label=f"in the tables: {label}",
            )


def draw_points(table: Table, title: Callable[[str], str] = str) -> bytes | None:
    """Accuracy against reads at test time, a point for each row and search.

    The keyword filter and BM25 are left out, because what they read besides keys is not counted.
    """
    points = _points(table, title)
    if not points:
        return None
    figure = _figure(1.6 + 0.22 * len(points))
    axes = figure.add_subplot()
    # names stand beside the plot by accuracy, so that points of equal reads do not cover each other
    low, high = points[0].accuracy, points[-1].accuracy
    step = max(high - low, 1.0) / max(1, len(points) - 1)
    for number, point in enumerate(points):
        colour = COLOURS[number % len(COLOURS)]
        marker = "o" if point.own else "s"
        axes.plot([point.reads], [point.accuracy], marker=marker, markersize=6, color=colour)
        _annotate(axes, point, low + number * step, colour)
    axes.set_xscale("log")
    _plain(axes)
    axes.margins(x=0.15)
    axes.set_xlabel("reads per question")
    axes.set_ylabel(f"fact_accuracy on {'test' if table.split == 'test' else 'validation'}, %")
    _tidy(axes)
    return _png(figure)


class _Point(NamedTuple):
    """A row with one search; ``own`` says whether it is the row's own."""

    accuracy: float
    reads: float
    label: str
    own: bool


def _points(table: Table, title: Callable[[str], str]) -> list[_Point]:
    """Points of all rows whose reads are counted, by rising accuracy."""
    points = []
    for name in table.runs:
        if READERS.get(name) in {KEYWORDS, BM25}:
            continue
        for how in ("own", "other"):
            accuracy = table.accuracy(name, how)
            reads = table.mean(name, "tested", table.split, how, "reads")
            if accuracy is None or reads is None or reads.value <= 0:
                continue
            label = title(name) if how == "own" else f"{title(name)}, tested by clusters"
            points.append(_Point(100 * accuracy.mean.value, reads.value, label, how == "own"))
    return sorted(points, key=lambda point: point.accuracy)


def _annotate(axes: Any, point: _Point, height: float, colour: str) -> None:
    """Write the name of a point beside the plot, with a line to it."""
    line = {"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.7, "relpos": (0, 0.5)}
    axes.annotate(
        f"{point.label}  {point.accuracy:.1f} %, {point.reads:,.0f} reads",
        (point.reads, point.accuracy),
        xytext=(1.02, height),
        textcoords=axes.get_yaxis_transform(),
        fontsize=8,
        color=colour,
        va="center",
        arrowprops=line,
        annotation_clip=False,
    )


def _figure(height: float) -> Any:
    return figures_module().Figure(figsize=(WIDTH, height), dpi=130, layout="constrained")


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(axes: Any) -> None:
    """Put plain numbers along a logarithmic axis, fewer where there is little room."""
    low, high = axes.get_xlim()
    decades = math.log10(high / low) * axes.get_gridspec().ncols  # of the whole width
    marked = (1.0, 2.0, 5.0) if decades < 4.5 else (1.0, 3.0) if decades < 9 else (1.0,)
    ticker = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=marked, numticks=20))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
