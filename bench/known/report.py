"""The results on what a model knows as Markdown, and as pictures."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

from bench.machine import described

GOALS = {
    "removed": "0.95",
    "metaqa": "0.98",
    "known": "2 %",
    "calibration": "2 %",
    "coverage": "0.90",
}
"""Figures to be reached."""


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    found = results["figures"]
    as_is, half, pooled = found["as they are"], found["half removed"], found["pooled"]
    lines = [
        "# Whether the answer is in the table",
        "",
        described(results["machine"]),
        "",
        f"`python -m bench.known`. Model: `{results['training']['command']}`: the even lines of "
        "SimpleQuestions' valid.tsv choose the epoch. Each half of valid.tsv is measured while the judge "
        "learns from training questions and the other half, which also sets the threshold.",
        "",
        "| | measured | to reach |",
        "|---|---|---|",
        "| AUROC, questions whose facts are there against those whose facts were removed "
        f"| {half['auroc']:.4f} | {GOALS['removed']} |",
        f"| AUROC, questions of SimpleQuestions against those of MetaQA that this table does not answer "
        f"| {pooled['auroc']:.4f} | {GOALS['metaqa']} |",
        f"| questions of MetaQA that count as known | {100 * pooled['known']:.2f} % | {GOALS['known']} |",
        f"| expected calibration error of the best answer | {100 * as_is['calibration error']:.2f} % "
        f"| {GOALS['calibration']} |",
        f"| coverage at 99 % precision | {as_is['coverage at 0.99']:.3f} | {GOALS['coverage']} |",
        "",
        f"Of {found['questions']:,} questions, {half['removed']:,} lose their facts, with all facts that "
        "read the same (a name and a relation), since no reader can tell these apart. An answer counts as "
        f"known from a probability of {found['thresholds'][0]:.4f} in one half and "
        f"{found['thresholds'][1]:.4f} in the other, which the other half's questions gave for a "
        f"precision of {found['precision asked for']:.2f} where half of the facts are gone. Here "
        f"{100 * half['precision of what is known']:.1f} % of what counts as known is right; "
        f"{100 * half['known of those removed']:.1f} % of the questions without facts count as known, and "
        f"{100 * half['known of those left']:.1f} % of the others. With all facts there, "
        f"{100 * as_is['known']:.1f} % of the questions count as known, and the pairs of "
        f"{100 * found['pair_accuracy']:.1f} % are right.",
        "",
        "## Questions of MetaQA",
        "",
        "MetaQA's 1-hop questions that this table answers are left out of the first two columns: the topic "
        "is a name here, with a fact of the relation that the question asks for. All are in the last two.",
        "",
        "| hops | questions | this table answers | AUROC | known | AUROC of all | known of all |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['hops']} | {row['questions']:,} | {row['answerable']} | {row['auroc']:.4f} "
            f"| {100 * row['known']:.2f} % | {row['auroc of all']:.4f} | {100 * row['known of all']:.2f} % |"
            for row in found["metaqa"]
        ),
        "",
        "## Probabilities",
        "",
        "| questions | calibration error | coverage at 99 % precision | at 95 % |",
        "|---|---|---|---|",
    ]
    for name in ("as they are", "half removed"):
        row = found[name]
        lines.append(
            f"| {name} | {100 * row['calibration error']:.2f} % | {row['coverage at 0.99']:.3f} "
            f"| {row['coverage at 0.95']:.3f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "Probabilities suppose that one question of twenty asks for what is not there. Where half of "
            "them do, they are too high; the decision known or not known takes the half into account.",
            "",
            "![Reliability, and risk against coverage](known.png)",
            "",
            "## Wrong answers that are most probable",
            "",
            f"Coverage at 99 % precision is {found['coverage by half'][0]:.3f} in one half and "
            f"{found['coverage by half'][1]:.3f} in the other. These are the most probable answers of each "
            "half that count as wrong; many are right, but not the fact that the data name:",
            "",
            *(f"- {text}" for text in found["wrong"]),
            "",
        ]
    )


def picture(found: dict[str, Any]) -> bytes:
    """Reliability diagram and risk against coverage, as PNG."""
    figure = Figure(figsize=(9.5, 4.2), dpi=130, layout="constrained")
    reliability, risk = figure.subplots(1, 2)
    reliability.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for name, colour in (("as they are", "#1f4fb4"), ("half removed", "#d62728")):
        means, shares, _ = zip(*found[name]["bins"], strict=True)
        reliability.plot(means, shares, "o-", color=colour, markersize=4, label=f"facts {name}")
        covered, risks = zip(*found[name]["curve"], strict=True)
        risk.plot(covered, [100 * value for value in risks], color=colour, label=f"facts {name}")
    reliability.set(
        xlabel="probability of the best answer", ylabel="share that is right", title="Reliability"
    )
    risk.set(
        xlabel="questions answered, as a share", ylabel="wrong answers, %", title="Risk against coverage"
    )
    for axes in (reliability, risk):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
