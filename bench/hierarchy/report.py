"""The figures of the hierarchy as Markdown and as plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.hierarchy.accuracy import GROUPS, LOST, PARTS, PROBES, REACHES, VARIANTS, reads_at
from bench.hierarchy.scale_report import growth, speed, writes
from bench.hierarchy.training import READS
from bench.machine import described

TARGET_READS = 300
"""Upper limit of reads per question at a loss of ``TARGET_LOST``."""
TARGET_LOST = 0.3
"""Upper limit of the loss against exact search, in percentage points of accuracy."""
TRAINED_LOST = 0.5
"""The same for a model trained through the hierarchy, against one trained with exact search."""
TARGET_BEHIND = 1.0
"""Upper limit of the recall that a followed index lacks against a rebuilt one, in percentage points."""
MIDDLE = 1000
"""Reads at which the two are compared; one of ``READS``."""
COLOURS = ("#d62728", "#f2b200", "#ff7f50", "#b0409a", "#8c6d31", "#2a7f3f", "#4aa3a2", "#666666", "#1f4fb4")
"""Colours of the curves, in the order of ``VARIANTS``."""


def markdown(results: dict[str, Any]) -> str:
    """The text of ``hierarchy.md``."""
    lines = ["# The hierarchy", "", "`make bench-hierarchy`", ""]
    if "accuracy" in results:
        lines += _accuracy(results["accuracy"])
    if "training" in results:
        lines += _training(results["training"])
    for part, section in (("speed", speed), ("growth", growth), ("writes", writes)):
        if part in results:
            lines += section(results[part])
    return "\n".join(lines)


def _accuracy(found: dict[str, Any]) -> list[str]:
    exact, curves = found["exact"], found["curves"]
    first = next(iter(curves))
    reads = reads_at(curves[first], TARGET_LOST)
    met = reads is not None and reads <= TARGET_READS
    return [
        f"## Accuracy against reads: {'**met**' if met else '**missed**'}",
        "",
        f"`python -m bench.hierarchy --only accuracy`. {described(found['machine'])}",
        "",
        f"Target: at most {TARGET_READS:,} reads per question, counting centroids and codes, while losing no "
        f"more than {TARGET_LOST} points of pairs and of facts against exact search on the same model. "
        f"Measured: {_number(reads)} reads.",
        "",
        "The memory is that of the model trained through the hierarchy (part `training`): "
        f"{found['cells']:,} cells of {found['features']} features for {found['facts']:,} facts. Of "
        f"{found['questions']:,} held-out questions, exact search gets {exact['pair_accuracy']:.4f} of the "
        f"pairs and {exact['fact_accuracy']:.4f} of the facts right. The hierarchies learn from the "
        f"{found['lessons']:,} training questions and the cells that exact search finds for them. They want "
        f"the best cell (`HierarchicalIndex({GROUPS}, parts={PARTS}, wanted=1)`), and return ten: the others "
        "are those met on the way, which recall@10 counts. Reads are interpolated between the points of the "
        "curves, where the larger of both losses crosses the limit.",
        "",
        "| | " + " | ".join(f"reads at {lost} points lost" for lost in LOST) + " |",
        "|---|" + "---|" * len(LOST),
        *(
            f"| {name} | " + " | ".join(_number(reads_at(curve, lost)) for lost in LOST) + " |"
            for name, curve in curves.items()
        ),
        "",
        "![accuracy lost against reads](hierarchy-accuracy.png)",
        "",
        f"### {first}, point by point",
        "",
        "| reach | reads | pairs | facts | pairs lost | facts lost | recall@10 |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {point['value']} | {point['reads']:,.0f} | {point['pair_accuracy']:.4f} "
            f"| {point['fact_accuracy']:.4f} | {point['pairs_lost']:.2f} | {point['facts_lost']:.2f} "
            f"| {point['recall_at_k']:.4f} |"
            for point in curves[first]
        ),
        "",
        f"Values of `reach` tried: {', '.join(map(str, REACHES))}; probes: {', '.join(map(str, PROBES))}.",
        "",
    ]


def _training(found: dict[str, Any]) -> list[str]:
    exact = found["exact"]
    lost = {name: 100 * (value - found[name]) for name, value in exact.items()}
    gaps = [behind(look) for look in found["looks"]]
    kept = max(lost.values()) <= TRAINED_LOST
    followed = max(gaps) <= TARGET_BEHIND
    return [
        f"## Trained end to end: {'**met**' if kept and followed else '**missed**'}",
        "",
        f"`python -m bench.hierarchy --only training`. {described(found['machine'])}",
        "",
        f"Target: within {TRAINED_LOST} points of the model trained with exact search, and throughout "
        f"training a recall no more than {TARGET_BEHIND:g} point below that of a rebuilt index. "
        f"Measured: {lost['pair_accuracy']:.2f} points of pairs and {lost['fact_accuracy']:.2f} of facts "
        f"lost; at most {max(gaps):.2f} points below.",
        "",
        "`hmn train --index hierarchy` on SimpleQuestions, all other settings at their defaults: keys change "
        "at every step, and training never searches exactly. The index is built before the first step, and "
        "makes its groups again after as many writes as there are cells, then twice as many, and so on. "
        f"The model gets {found['pair_accuracy']:.4f} of the pairs and {found['fact_accuracy']:.4f} of the "
        f"facts right at {found['reads']:,.0f} reads per question; the model trained with exact search gets "
        f"{exact['pair_accuracy']:.4f} and {exact['fact_accuracy']:.4f} (`bench/results/qa.md`).",
        "",
        f"Recall@10 of {found['asked']:,} held-out questions against exact search over the indexed keys, at "
        "equal reads: of the index that has followed the keys, and of an index rebuilt on them.",
        "",
        "| step | groups | largest group | "
        + " | ".join(f"at {reads:,} reads: followed | rebuilt" for reads in READS)
        + " |",
        "|---|---|---|" + "---|---|" * len(READS),
        *(
            f"| {look['step']:,} | {look['groups']} | {_largest(look)} | "
            + " | ".join(
                f"{_share(live)} | {_share(fresh)}"
                for live, fresh in zip(look["live"], look["fresh"], strict=True)
            )
            + " |"
            for look in found["looks"]
        ),
        "",
        "![recall over the steps of the training](hierarchy-training.png)",
        "",
    ]


def _largest(look: dict[str, Any]) -> int:
    """Cells of the largest group; looks at several tiers counted those of the largest leaf."""
    return int(look["largest_group"] if "largest_group" in look else look["largest_leaf"])


def behind(look: dict[str, Any]) -> float:
    """Percentage points of recall by which an index lies below a rebuilt one at ``MIDDLE`` reads."""
    middle = READS.index(MIDDLE)
    live, fresh = look["live"][middle], look["fresh"][middle]
    return float("inf") if live is None or fresh is None else 100 * (fresh - live)


def _share(recall: float | None) -> str:
    return "–" if recall is None else f"{recall:.3f}"


def draw_training(found: dict[str, Any], file: Path) -> None:
    """Write the recalls over the steps as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    step = [look["step"] for look in found["looks"]]
    for number, (reads, colour) in enumerate(zip(READS, ("#1f4fb4", "#d62728", "#2a7f3f"), strict=True)):
        for name, style, label in (("live", "-", "followed"), ("fresh", ":", "rebuilt")):
            recalls = [look[name][number] for look in found["looks"]]
            shares = [float("nan") if recall is None else recall for recall in recalls]
            axes.plot(step, shares, style, marker="o", markersize=3.5, color=colour)
            axes.lines[-1].set_label(f"{reads:,} reads, {label}")
    axes.set_xlabel("steps of the training")
    axes.set_ylabel("recall@10")
    axes.set_title("An index that follows its keys, and one rebuilt on them")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _number(reads: float | None) -> str:
    return "not reached" if reads is None else f"{reads:,.0f}"


def draw(found: dict[str, Any], file: Path) -> None:
    """Write the curves as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for variant, colour in zip(VARIANTS, COLOURS, strict=True):
        curve = found["curves"][variant.name]
        wide = 2.6 if variant is VARIANTS[0] else 1.4
        reads = [point["reads"] for point in curve]
        lost = [max(point["pairs_lost"], 0.01) for point in curve]
        axes.plot(reads, lost, marker="o", markersize=3.5, color=colour, linewidth=wide, label=variant.name)
    axes.plot([TARGET_READS], [TARGET_LOST], marker="*", markersize=13, color="black", linestyle="")
    axes.annotate(" target", (TARGET_READS, TARGET_LOST), fontsize=9)
    axes.set(xscale="log", yscale="log", ylim=(0.05, 60))
    axes.set_xlabel("reads per question (lower is better)")
    axes.set_ylabel("points of pair_accuracy lost against exact search")
    axes.set_title(f"Accuracy against reads: {found['cells']:,} cells, {found['questions']:,} questions")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)
