"""Speed, growth and live writes of the hierarchy as Markdown and as a plot."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.machine import described

TARGET_TIMES = {81_004: 10, 1_000_000: 100}
"""Lower limit of the speed-up of a step over full softmax, by number of cells."""
TARGET_UPKEEP = 0.1
"""Upper limit of upkeep as a share of a step."""
TARGET_GROWTH = 3.2
"""Upper limit of the ratio of times for ten times as many cells."""
TARGET_FITS_MIB = 12 * 2**10
"""Upper limit of resident MiB while the largest index is built."""
TARGET_MAPPED_MIB = 3 * 2**10
"""Upper limit of anonymous MiB while searching keys that stay on disk."""
TARGET_WRITTEN = 20_000
"""Lower limit of cells written per second."""
BEHIND = 0.01
"""Upper limit of the recall lost after writes."""
COLOURS = {"hierarchy": "#d62728", "faiss IVF-Flat": "#1f4fb4", "full softmax": "#666666"}
"""Colours of the systems."""


def speed(found: dict[str, Any]) -> list[str]:
    """The section on a training step, beside one of full softmax."""
    rows = found["rows"]
    fast = all(row["times"] >= TARGET_TIMES[row["cells"]] for row in rows)
    moved = " and ".join(f"{row['moved']:.0%}" for row in rows if "moved" in row)
    met = fast and all(row["upkeep_share"] <= TARGET_UPKEEP for row in rows)
    return [
        f"## A training step: {_met(met)}",
        "",
        f"`python -m bench.hierarchy --only speed`. {described(found['machine'])}",
        "",
        "Target: forward, backward, optimiser and upkeep of the index together at least 10 times as fast as "
        "with full softmax over 81,004 cells and 100 times over a million; upkeep at most a tenth.",
        "",
        "| | cells | ms per step | full softmax | times as fast | upkeep, ms | share | reads | recall@10 | "
        "rebuilt: reads | recall@10 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_speed_row(row) for row in rows),
        "",
        f"Both run in one process, in turns: each of {found['rounds']} rounds takes one step of full softmax "
        f"and {found['steps']} of the other, with {found['batch']} questions per step. The first row is "
        "`hmn train` (with `--index hierarchy`, with `--reader softmax`), where an encoder makes the keys: "
        "its upkeep includes encoding the renewed cells. The other rows are `KMIPSAttention(memory, "
        f"{found['k']}, index='hierarchy', refiled={found['refiled']})` with `SparseAdam` and "
        "`SoftmaxAttention` with fused `Adam`, over trained stored keys "
        f"({rows[-1]['name'].removeprefix('stored memory, ')}). Recall@10 is measured on held-out queries "
        f"after {found['settled']:,} steps of warm-up and the timed steps, by when {moved} of the cells have "
        "moved: of the index that followed, and of an index rebuilt on the keys of that moment.",
        "",
    ]


def _speed_row(row: dict[str, Any]) -> str:
    stored = "recall" in row
    figures = [
        "stored memory" if stored else row["name"],
        f"{row['cells']:,}",
        f"{row['ours_ms']:.1f}",
        f"{row['softmax_ms']:,.0f}",
        f"{row['times']:.0f}",
        f"{row['upkeep_ms']:.1f}",
        f"{row['upkeep_share']:.1%}",
    ]
    for kind in ("followed", "anew"):
        figures.append(f"{row['reads'][kind]:,.0f}" if stored else "–")
        figures.append(f"{row['recall'][kind]:.3f}" if stored else "–")
    return "| " + " | ".join(figures) + " |"


def ratios(rows: list[dict[str, Any]], key: str) -> list[float]:
    """Ratios of a time for each tenfold number of cells: medians over the rounds of the ratio within each."""
    times = [_times(row, key) for row in rows]
    return [
        statistics.median(after / before for before, after in zip(smaller, larger, strict=True))
        for smaller, larger in pairwise(times)
        if smaller and larger
    ]


def _times(row: dict[str, Any], key: str) -> list[float]:
    """Milliseconds of each round; empty where they could not be measured."""
    if key == "step":
        return [ms for ms in row["step_ms"] if ms is not None]
    return [timed["ms"] for timed in row["query"][key]]


def growth(found: dict[str, Any]) -> list[str]:
    """The sections on times and on memory over the number of cells."""
    systems, batch = found["systems"], str(found["batch"])
    kinds = {"1": "query, alone", batch: f"query, of {batch}", "step": "training step"}
    ours = systems["hierarchy"]
    grown = [ratio for key in kinds for ratio in ratios(ours, key)]
    last = ours[-1]
    fits, mapped = last["build_mib"], last["mapped"]
    small = fits <= TARGET_FITS_MIB and mapped["anonymous_mib"] <= TARGET_MAPPED_MIB
    lines = [
        f"## Growth: {_met(max(grown) <= TARGET_GROWTH)}",
        "",
        f"`python -m bench.hierarchy --only growth`. {described(found['machine'])}",
        "",
        f"Target: no more than {TARGET_GROWTH} times as long for ten times as many cells, for queries and "
        f"training steps alike. Measured: at most {max(grown):.2f} times.",
        "",
        f"Generated cells of {found['features']} features in clusters of {found['cluster']} on average at "
        f"every size. Every index searches wide enough to find {found['recall']:.0%} of the {found['k']} "
        "best cells for the queries it is tuned on; recall is measured on others. Milliseconds are medians "
        f"over {found['rounds']} rounds in which the sizes take turns: per query asked alone, per query in "
        f"batches of {batch}, and per training step of {batch} queries (K-MIPS attention and SGD on the "
        "cells read). Full softmax takes smaller batches where the scores would need more than 2 GiB.",
        "",
        "| | cells | "
        + " | ".join(f"{name}, ms" for name in kinds.values())
        + " | recall@10 | reads | setting |",
        "|---|---|" + "---|" * (len(kinds) + 3),
    ]
    for name, rows in systems.items():
        for row in rows:
            times = [_median(_times(row, key)) for key in kinds]
            rest = (
                [f"{row['recall']:.3f}", f"{row['reads']:,.0f}"]
                if "recall" in row
                else ["1", f"{row['cells']:,}"]
            )
            lines.append(
                "| " + " | ".join([name, f"{row['cells']:,}", *times, *rest, row.get("setting", "–")]) + " |"
            )
    lines += ["", "Ratios of times for each tenfold number of cells:", ""]
    lines += ["| | " + " | ".join(kinds.values()) + " |", "|---|" + "---|" * len(kinds)]
    for name, rows in systems.items():
        cells = [", ".join(f"{ratio:.2f}" for ratio in ratios(rows, key)) or "–" for key in kinds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "![time of a query and of a step over the number of cells](hierarchy-growth.png)",
        "",
        f"## Memory: {_met(small)}",
        "",
        f"Target: {last['cells']:,} cells of {found['features']} features and their index in 12 GiB; with "
        "keys that stay on disk, less than 3 GiB of anonymous memory while searching. Measured, in the same "
        f"run: a peak of {fits / 2**10:.2f} GiB while building ({last['build_seconds'] / 60:.1f} minutes), "
        f"of which the keys are {last['keys_mib'] / 2**10:.2f}; {last['searching_mib'] / 2**10:.2f} GiB "
        "afterwards. Loaded from a bundle with memory-mapped keys, the index searches with "
        f"{mapped['anonymous_mib'] / 2**10:.2f} GiB of anonymous memory ({mapped['files_mib'] / 2**10:.2f} "
        "GiB of the files are resident by then, which the system may reclaim) and finds "
        f"{mapped['recall']:.3f} of the best cells.",
        "",
    ]


def draw_growth(found: dict[str, Any], file: Path) -> None:
    """Write times over the number of cells as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    batch = str(found["batch"])
    figure, both = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    panels = {"1": "a query asked alone", "step": f"a training step of {batch} queries"}
    for axes, (key, title) in zip(both, panels.items(), strict=True):
        for name, rows in found["systems"].items():
            points = [(row["cells"], _times(row, key)) for row in rows]
            points = [(cells, times) for cells, times in points if times]
            if not points:
                continue
            cells = [count for count, _ in points]
            middle = [statistics.median(times) for _, times in points]
            axes.plot(cells, middle, marker="o", color=COLOURS[name], label=name)
            if name == "hierarchy":
                line = [middle[0] * math.sqrt(count / cells[0]) for count in cells]
                axes.plot(cells, line, ":", color="black", label="square root of the cells")
        axes.set(xscale="log", yscale="log", xlabel="cells", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9, frameon=False)
    both[0].set_ylabel("milliseconds")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def writes(found: dict[str, Any]) -> list[str]:
    """The section on searches between writes."""
    runs = found["runs"]
    rate = max(run["cells_a_second"] for run in runs)
    pairs = [pair for run in runs for pair in zip(run["untouched"], run["mean"], strict=True)]
    worst = max(0.0, *(100 * (before - after) for before, after in pairs))
    return [
        f"## Live writes: {_met(worst <= 100 * BEHIND and rate >= TARGET_WRITTEN)}",
        "",
        f"`python -m bench.hierarchy --only writes`. {described(found['machine'])}",
        "",
        f"Target: {found['writes']:,} random additions, overwrites and removals interleaved with searches. "
        "Each search agrees with exact search over the memory of that moment as well as the untouched index "
        f"does, and at least {TARGET_WRITTEN:,} cells are written per second. Measured: {rate:,.0f} cells "
        f"per second; mean recall is at most {worst:.2f} points below that of the untouched index.",
        "",
        f"The memory starts with {found['cells']:,} generated cells of {found['features']} features; the "
        "kinds of calls and their cells are drawn at random. After every "
        f"{found['writes'] // found['searches']} calls, {found['asked']} held-out queries are asked "
        f"and another {found['asked']} near cells written "
        "since the last search; no removed cell is ever found. "
        f"Recall@{found['k']} is given before the first write (there, near any cells), and as mean and "
        "minimum over the searches.",
        "",
        "| cells per call | written per second | ms per call | held-out: before | mean | least | near "
        "written: before | mean | least | reads before | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {run['size']} | {run['cells_a_second']:,.0f} | {run['ms_a_call']:.2f} | "
            + " | ".join(
                f"{run['untouched'][kind]:.3f} | {run['mean'][kind]:.3f} | {run['least'][kind]:.3f}"
                for kind in range(2)
            )
            + f" | {run['reads']:,.0f} | {run['reads_after']:,.0f} |"
            for run in runs
        ),
        "",
    ]


def _met(met: bool) -> str:
    return "**met**" if met else "**missed**"


def _median(times: list[float]) -> str:
    if not times:
        return "–"
    median = statistics.median(times)
    return f"{median:,.3f}" if median < 1 else f"{median:,.2f}"
