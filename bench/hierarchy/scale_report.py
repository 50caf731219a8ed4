"""Speed, growth and live writes of the hierarchy as Markdown and as a picture."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.machine import described

TARGET_TIMES = {81_004: 10, 1_000_000: 100}
TARGET_UPKEEP = 0.1
TARGET_GROWTH = 3.2
TARGET_FITS_MIB, TARGET_MAPPED_MIB = 12 * 2**10, 3 * 2**10
TARGET_WRITTEN, BEHIND = 20_000, 0.01
COLOURS = {"hierarchy": "#d62728", "faiss IVF-Flat": "#1f4fb4", "full softmax": "#666666"}


def speed(found: dict[str, Any]) -> list[str]:
    """A training step beside one of full softmax."""
    rows = found["rows"]
    fast = all(one["times"] >= TARGET_TIMES[one["cells"]] for one in rows)
    moved = " and ".join(f"{one['moved']:.0%}" for one in rows if "moved" in one)
    met = fast and all(one["upkeep_share"] <= TARGET_UPKEEP for one in rows)
    return [
        f"## A training step: {_met(met)}",
        "",
        f"`python -m bench.hierarchy --only speed`. {described(found['machine'])}",
        "",
        "Wanted: forward, backward, optimiser and upkeep of the index together at least 10 times as fast "
        "as with full softmax over 81,004 cells and 100 times over a million, and at most a tenth of it "
        "upkeep.",
        "",
        "| | cells | ms a step | full softmax | times as fast | upkeep, ms | share | reads | recall@10 | "
        "built anew: reads | recall@10 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_speed_row(one) for one in rows),
        "",
        f"Both in one process, in turns: in each of {found['rounds']} rounds one step of full softmax and "
        f"{found['steps']} of the other, {found['batch']} questions a step. The first row is `hmn train` "
        "(with `--index hierarchy`, with `--reader softmax`), whose keys an encoder makes: its upkeep holds "
        "the encoding of the cells that are renewed. The others are `KMIPSAttention(memory, "
        f"{found['k']}, index='hierarchy', refiled={found['refiled']})` with `SparseAdam` and "
        "`SoftmaxAttention` with fused `Adam`, over stored keys that are trained "
        f"({rows[-1]['name'].removeprefix('stored memory, ')}). Recall@10 is of held-out queries after the "
        f"{found['settled']:,} steps before and those that are timed, by when "
        f"{moved} of the cells have moved: of the index that followed, and of one built anew on the keys "
        "as they are then.",
        "",
    ]


def _speed_row(one: dict[str, Any]) -> str:
    name = "stored memory" if "recall" in one else one["name"]
    figures = [
        name,
        f"{one['cells']:,}",
        f"{one['ours_ms']:.1f}",
        f"{one['softmax_ms']:,.0f}",
        f"{one['times']:.0f}",
        f"{one['upkeep_ms']:.1f}",
        f"{one['upkeep_share']:.1%}",
    ]
    for kind in ("followed", "anew"):
        found = "recall" in one
        figures.append(f"{one['reads'][kind]:,.0f}" if found else "–")
        figures.append(f"{one['recall'][kind]:.3f}" if found else "–")
    return "| " + " | ".join(figures) + " |"


def ratios(rows: list[dict[str, Any]], key: str) -> list[float]:
    """By how much a time grows for each tenfold number of cells: medians over rounds of ratios within "
    "each."""
    times = [_times(one, key) for one in rows]
    return [
        statistics.median(b / a for a, b in zip(few, many, strict=True))
        for few, many in pairwise(times)
        if few and many
    ]


def _times(row: dict[str, Any], key: str) -> list[float]:
    """A time of each round, in milliseconds; none where it could not be measured."""
    if key == "step":
        return [one for one in row["step_ms"] if one is not None]
    return [one["ms"] for one in row["query"][key]]


def growth(found: dict[str, Any]) -> list[str]:
    """Times and memory over the number of cells."""
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
        f"Wanted: no more than {TARGET_GROWTH} times as long for ten times as many cells, a query as well "
        f"as a training step. Measured: at most {max(grown):.2f} times.",
        "",
        f"Generated cells of {found['features']} features in clusters of {found['cluster']} on average, "
        f"whatever their number. Every index looks as far as finds {found['recall']:.0%} of the "
        f"{found['k']} best cells of some queries; recall is of others. Milliseconds are medians over "
        f"{found['rounds']} rounds in which the sizes take turns; a query alone, a query of {batch} asked "
        f"at once, and a training step of {batch} queries (K-MIPS attention and SGD on the cells that were "
        "read). Full softmax asks fewer at once where their scores would take more than 2 GiB.",
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
    lines += ["", "For each tenfold number of cells, times as long:", ""]
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
        f"Wanted: {last['cells']:,} cells of {found['features']} features and their index in 12 GiB; with "
        "keys that stay on disk under 3 GiB of anonymous memory while searching. Measured, in the same "
        f"run: {fits / 2**10:.2f} GiB at the most while it was built ({last['build_seconds'] / 60:.1f} "
        f"minutes), of which the keys are {last['keys_mib'] / 2**10:.2f}; "
        f"{last['searching_mib'] / 2**10:.2f} GiB afterwards. Loaded from a bundle with its keys "
        f"memory-mapped it searches with {mapped['anonymous_mib'] / 2**10:.2f} GiB of anonymous memory "
        f"({mapped['files_mib'] / 2**10:.2f} GiB of the files are in memory by then, which the system may "
        f"take back) and finds {mapped['recall']:.3f} of the best cells.",
        "",
    ]


def draw_growth(found: dict[str, Any], file: Path) -> None:
    """Write times over the number of cells as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    batch = str(found["batch"])
    figure, both = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    panels = {"1": "a query that comes alone", "step": f"a training step of {batch} queries"}
    for axes, (key, title) in zip(both, panels.items(), strict=True):
        for name, rows in found["systems"].items():
            points = [(one["cells"], _times(one, key)) for one in rows]
            points = [(cells, times) for cells, times in points if times]
            if not points:
                continue
            cells = [each for each, _ in points]
            middle = [statistics.median(times) for _, times in points]
            axes.plot(cells, middle, marker="o", color=COLOURS[name], label=name)
            if name == "hierarchy":
                line = [middle[0] * math.sqrt(each / cells[0]) for each in cells]
                axes.plot(cells, line, ":", color="black", label="square root of the cells")
        axes.set(xscale="log", yscale="log", xlabel="cells", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9, frameon=False)
    both[0].set_ylabel("milliseconds")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def writes(found: dict[str, Any]) -> list[str]:
    """Searches between writes."""
    runs = found["runs"]
    rate = max(one["cells_a_second"] for one in runs)
    pairs = [each for one in runs for each in zip(one["untouched"], one["mean"], strict=True)]
    worst = max(0.0, *(100 * (before - after) for before, after in pairs))
    return [
        f"## Live writes: {_met(worst <= 100 * BEHIND and rate >= TARGET_WRITTEN)}",
        "",
        f"`python -m bench.hierarchy --only writes`. {described(found['machine'])}",
        "",
        f"Wanted: {found['writes']:,} random additions, overwrites and removals interleaved with searches, "
        "each of which agrees with exact search over the memory of that moment as well as the untouched "
        f"index does, and at least {TARGET_WRITTEN:,} written cells a second. Measured: {rate:,.0f} a "
        f"second; recall is never more than {worst:.2f} points below that of the untouched index, on "
        "average over the searches.",
        "",
        f"{found['cells']:,} generated cells of {found['features']} features to begin with; kinds of calls "
        f"and their cells are drawn at random. After every {found['writes'] // found['searches']} calls "
        f"{found['asked']} held-out queries are asked, and as many near cells written since the last "
        f"search; no removed cell is ever found. Recall@{found['k']}: before the first write (there, near "
        "any cells), and mean and least over the searches.",
        "",
        "| cells a call | written a second | ms a call | held-out: before | mean | least | near written: "
        "before | mean | least | reads before | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one['size']} | {one['cells_a_second']:,.0f} | {one['ms_a_call']:.2f} | "
            + " | ".join(
                f"{one['untouched'][kind]:.3f} | {one['mean'][kind]:.3f} | {one['least'][kind]:.3f}"
                for kind in range(2)
            )
            + f" | {one['reads']:,.0f} | {one['reads_after']:,.0f} |"
            for one in runs
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
