"""The figures of the hierarchy as Markdown and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.hierarchy.accuracy import LOST, PROBES, REACHES, RESCORED, VARIANTS, reads_at
from bench.hierarchy.scale_report import growth, speed, writes
from bench.hierarchy.training import READS
from bench.machine import described

TARGET_READS, TARGET_LOST = 1290, 0.5
TARGET_BEHIND, MIDDLE = 1.0, 1000
COLOURS = ("#d62728", "#f2b200", "#ff7f50", "#b0409a", "#8c6d31", "#2a7f3f", "#666666", "#1f4fb4")


def markdown(results: dict[str, Any]) -> str:
    """``hierarchy.md``."""
    lines = ["# The hierarchy", "", "`make bench-hierarchy`", ""]
    if "accuracy" in results:
        lines += _accuracy(results["accuracy"])
    if "training" in results:
        lines += _training(results["training"])
    for part, told in (("speed", speed), ("growth", growth), ("writes", writes)):
        if part in results:
            lines += told(results[part])
    return "\n".join(lines)


def _accuracy(found: dict[str, Any]) -> list[str]:
    exact, curves = found["exact"], found["curves"]
    first = next(iter(curves))
    at = reads_at(curves[first], TARGET_LOST)
    met = at is not None and at <= TARGET_READS
    return [
        f"## Accuracy against reads: {'**met**' if met else '**missed**'}",
        "",
        f"`python -m bench.hierarchy --only accuracy`. {described(found['machine'])}",
        "",
        f"Wanted: at most {TARGET_READS:,} reads a question, centroids and codes counted, with no more than "
        f"{TARGET_LOST} points of pairs and of facts lost against exact search on the same model. Measured: "
        f"{_number(at)} reads.",
        "",
        "The memory is that of the model that was trained through the hierarchy, the part `training`: "
        f"{found['cells']:,} cells of {found['features']} features for {found['facts']:,} facts. "
        f"{found['questions']:,} held-out "
        f"questions are asked; exact search gets {exact['pair_accuracy']:.4f} pairs and "
        f"{exact['fact_accuracy']:.4f} facts right. What is learned is learned from the "
        f"{found['lessons']:,} training questions and what exact search finds for them. All hierarchies "
        f"score {RESCORED} cells in full. Reads are between the points of the curves, where the worse of "
        "pairs and facts crosses the loss.",
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
            f"| {one['value']} | {one['reads']:,.0f} | {one['pair_accuracy']:.4f} "
            f"| {one['fact_accuracy']:.4f} | {one['pairs_lost']:.2f} | {one['facts_lost']:.2f} "
            f"| {one['recall_at_k']:.4f} |"
            for one in curves[first]
        ),
        "",
        f"Reaches tried: {', '.join(map(str, REACHES))}; probes: {', '.join(map(str, PROBES))}.",
        "",
    ]


def _training(found: dict[str, Any]) -> list[str]:
    exact = found["exact"]
    lost = {name: 100 * (value - found[name]) for name, value in exact.items()}
    gaps = [behind(one) for one in found["looks"]]
    kept = max(lost.values()) <= TARGET_LOST
    followed = max(gaps) <= TARGET_BEHIND
    return [
        f"## Trained end to end: {'**met**' if kept and followed else '**missed**'}",
        "",
        f"`python -m bench.hierarchy --only training`. {described(found['machine'])}",
        "",
        f"Wanted: within {TARGET_LOST} points of the model that is trained with exact search, and in "
        f"training a recall never more than {TARGET_BEHIND:g} point below that of an index built anew. "
        f"Measured: {lost['pair_accuracy']:.2f} points of pairs and {lost['fact_accuracy']:.2f} of facts "
        f"lost; at most {max(gaps):.2f} points below.",
        "",
        "`hmn train --index hierarchy` on SimpleQuestions, all other settings as they are: keys change at "
        "every step, nothing in the training searches exactly, and the index is built once, before the first "
        "step. "
        f"The model gets {found['pair_accuracy']:.4f} pairs and {found['fact_accuracy']:.4f} facts right at "
        f"{found['reads']:,.0f} reads a question; the one trained with exact search "
        f"{exact['pair_accuracy']:.4f} and {exact['fact_accuracy']:.4f} (`bench/results/qa.md`).",
        "",
        f"Recall@10 of {found['asked']:,} held-out questions against exact search on the keys as the index "
        "knows them, at equal reads: of the index that has followed them, and of one built anew on them.",
        "",
        "| step | groups | largest leaf | "
        + " | ".join(f"at {reads:,} reads: followed | anew" for reads in READS)
        + " |",
        "|---|---|---|" + "---|---|" * len(READS),
        *(
            f"| {one['step']:,} | {one['groups']} | {one['largest_leaf']} | "
            + " | ".join(
                f"{_share(live)} | {_share(fresh)}"
                for live, fresh in zip(one["live"], one["fresh"], strict=True)
            )
            + " |"
            for one in found["looks"]
        ),
        "",
        "![recall over the steps of the training](hierarchy-training.png)",
        "",
    ]


def behind(look: dict[str, Any]) -> float:
    """Points of recall by which an index is below one built anew, at the reads in the middle."""
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
    step = [one["step"] for one in found["looks"]]
    for at, (reads, colour) in enumerate(zip(READS, ("#1f4fb4", "#d62728", "#2a7f3f"), strict=True)):
        for name, style, told in (("live", "-", "followed"), ("fresh", ":", "built anew")):
            shares = [one[name][at] if one[name][at] is not None else float("nan") for one in found["looks"]]
            axes.plot(step, shares, style, marker="o", markersize=3.5, color=colour)
            axes.lines[-1].set_label(f"{reads:,} reads, {told}")
    axes.set_xlabel("steps of the training")
    axes.set_ylabel("recall@10")
    axes.set_title("An index that follows its keys, and one built anew on them")
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
        reads = [one["reads"] for one in curve]
        lost = [max(one["pairs_lost"], 0.01) for one in curve]
        axes.plot(reads, lost, marker="o", markersize=3.5, color=colour, linewidth=wide, label=variant.name)
    axes.plot([TARGET_READS], [TARGET_LOST], marker="*", markersize=13, color="black", linestyle="")
    axes.annotate(" wanted", (TARGET_READS, TARGET_LOST), fontsize=9)
    axes.set(xscale="log", yscale="log", ylim=(0.05, 60))
    axes.set_xlabel("reads a question (lower is better)")
    axes.set_ylabel("points of pair_accuracy lost to exact search")
    axes.set_title(f"Accuracy against reads: {found['cells']:,} cells, {found['questions']:,} questions")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)
