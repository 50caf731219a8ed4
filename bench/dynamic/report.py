"""The figures of the hierarchy as Markdown and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.dynamic.accuracy import LOST, PROBES, REACHES, RESCORED, VARIANTS, reads_at
from bench.machine import described

TARGET_READS, TARGET_LOST = 1290, 0.5
COLOURS = ("#d62728", "#f2b200", "#ff7f50", "#b0409a", "#8c6d31", "#2a7f3f", "#666666", "#1f4fb4")


def markdown(results: dict[str, Any]) -> str:
    """``dynamic.md``."""
    found = results["accuracy"]
    exact, curves = found["exact"], found["curves"]
    first = next(iter(curves))
    at = reads_at(curves[first], TARGET_LOST)
    met = at is not None and at <= TARGET_READS
    lines = [
        "# The hierarchy",
        "",
        f"`make bench-dynamic`. {described(results['machine'])}",
        "",
        f"## Accuracy against reads: {'**met**' if met else '**missed**'}",
        "",
        f"Wanted: at most {TARGET_READS:,} reads a question, centroids and codes counted, with no more than "
        f"{TARGET_LOST} points of pairs and of facts lost against exact search on the same model. Measured: "
        f"{_number(at)} reads.",
        "",
        f"The memory is that of the main job's model (`make bench-qa`, row kmips): {found['cells']:,} cells "
        f"of {found['features']} features for {found['facts']:,} facts. {found['questions']:,} held-out "
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
        "![accuracy lost against reads](dynamic-accuracy.png)",
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
    return "\n".join(lines)


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
