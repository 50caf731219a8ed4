"""The figures of the memory layer as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from bench.layer.language import BATCH, CELLS, WIDE
from bench.layer.model import LENGTH
from bench.layer.steps import STATES, TRAINED
from bench.layer.systems import BATCH as POSITIONS
from bench.layer.systems import FEATURES, HEADS, KEY_FEATURES, SYSTEMS, K
from bench.machine import described

RECALL, BUILD = 0.9, 2.0
"""Targets: recall at every mark, and seconds of the first read per ``PER`` cells."""
PER = 262_144
"""Cells that ``BUILD`` is for."""
SHARES = {"262144": 1.0, "1048576": 0.5}
"""Targets: time of a step, in those of the fastest product-key layer, by number of cells."""


def markdown(results: dict[str, Any]) -> str:
    """The text of ``layer.md``."""
    lines = ["# A memory layer beside product keys", "", "`make bench-layer`", ""]
    for part, section in (("steps", _steps), ("language", _language)):
        if part in results:
            lines += section(results[part])
    return "\n".join(lines)


def _verdict(met: bool) -> str:
    return "**met**" if met else "**missed**"


def _steps(found: dict[str, Any]) -> list[str]:
    cells = found["cells"]
    recall = min(value for own in cells.values() for value in own["hmn"]["recall"].values())
    build = max(own["hmn"]["first_seconds"] * PER / max(PER, int(count)) for count, own in cells.items())
    goals = []
    for count, most in SHARES.items():
        if count in cells:
            spread, trained = (_share(cells[count], state) for state in STATES)
            goals.append(
                f"at {int(count):,} cells {spread:.2f} of its time while reads are spread and {trained:.2f} "
                f"after training (target {most:g}, {_verdict(max(spread, trained) <= most)})"
            )
    goals.append(f"recall at least {recall:.3f} (target {RECALL:g}, {_verdict(recall >= RECALL)})")
    goals.append(
        f"first step {build:.1f} s per {PER:,} cells (target {BUILD:g} for the build of the index, "
        f"{_verdict(build <= BUILD)})"
    )
    lines = [
        "## A training step",
        "",
        f"`python -m bench.layer --only steps`. {described(found['machine'])}",
        "",
        f"A layer of {FEATURES} features, {HEADS} heads and {K} reads per head learns a map of random "
        f"positions, {POSITIONS:,} per step; keys have {KEY_FEATURES} features. Product keys (Lample et al. "
        "2019) have the same queries, temperature, gate and output, and half keys per head; their values are "
        f"an `nn.EmbeddingBag`. The systems take turns of {found['steps']} steps, {found['rounds']} times, "
        f"{_threads(found['threads'])}. On this task all of them soon read few cells again and again, which "
        "is faster. So steps are timed twice: while reads are spread, at a learning rate near 0, and after "
        f"{TRAINED} steps of training. Memory is the peak of the process beyond what it had before the layer "
        "was made. Recall@32 is measured on other positions than those of the steps.",
        "",
        f"Against the fastest product-key layer: {'; '.join(goals)}.",
        "",
        "| cells | | spread: cells read | ms per step | forward | backward | optimiser | of the fastest "
        "product keys | trained: cells read | ms per step | of the fastest | peak MiB | first step, s | "
        "recall: first step, spread, trained |",
        "|---" * 14 + "|",
    ]
    for count, own in cells.items():
        for name, label in SYSTEMS.items():
            one = own[name]
            spread, trained = one["spread"], one["trained"]
            recalls = [value for value in one["recall"].values() if value is not None]
            row = [
                f"{int(count):,}",
                label,
                f"{spread['cells_read']:,}",
                *(f"{1e3 * spread[part]:,.0f}" for part in ("step", "forward", "backward", "optimiser")),
                f"{spread['step'] / _fastest(own, 'spread'):.2f}",
                f"{trained['cells_read']:,}",
                f"{1e3 * trained['step']:,.0f}",
                f"{trained['step'] / _fastest(own, 'trained'):.2f}",
                f"{one['peak_mib']:,.0f}",
                "–" if one["first_was_loaded"] else f"{one['first_seconds']:.1f}",
                ", ".join(f"{value:.3f}" for value in recalls) or "exact",
            ]
            lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _fastest(own: dict[str, Any], state: str) -> float:
    return float(min(one[state]["step"] for name, one in own.items() if name != "hmn"))


def _share(own: dict[str, Any], state: str) -> float:
    return float(own["hmn"][state]["step"]) / _fastest(own, state)


def _language(found: dict[str, Any]) -> list[str]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in found["runs"]:
        runs.setdefault(run["name"], []).append(run)
    corpus = found["corpus"]
    lines = [
        "## A small language model",
        "",
        f"`python -m bench.layer --only language`. {described(found['machine'])}",
        "",
        "Poems of the Tang and Song dynasties (npm `chinese-poetry`, MIT): "
        f"{corpus['poems']['train']:,} to train on, {corpus['poems']['valid']:,} and "
        f"{corpus['poems']['test']:,} held out, split by poem. Tokens are the most frequent characters, and "
        f"bytes for the others. A Transformer of three layers of {FEATURES} features reads {BATCH} sequences "
        f"of {LENGTH} tokens per step. The models differ in the middle one of the three feed-forward blocks: "
        f"none, the usual one of four times as many hidden features, one of {WIDE:,} (as many parameters as "
        f"the values of a memory), or a memory of {CELLS:,} cells, {HEADS} heads and {K} reads per head. The "
        "settings are those of the first trial, the same for all. Bits per byte of the held-out poems: mean "
        "over the seeds, and the standard deviation. Use is that since the last validation: the share of "
        "cells read at all, and the divergence of their weights from equal ones, in nats.",
        "",
        "| | parameters | seeds | bits per byte, test | validation after "
        + " | ".join(f"{step} steps" for step in _marks(found["runs"]))
        + " | share used | divergence | recall, lowest |",
        "|---|---|---|---|" + "---|" * len(_marks(found["runs"])) + "---|---|---|",
    ]
    for name, own in runs.items():
        valid = [
            f"{statistics.fmean(run['valid'][step] for run in own):.4f}" for step in _marks(found["runs"])
        ]
        use = [run["use"] for run in own if "use" in run]
        recalls = [value for run in own for value in run["recall"].values()]
        cells = [
            name,
            f"{own[0]['parameters'] / 1e6:.2f} M",
            str(len(own)),
            _spread([run["test"] for run in own]),
            *valid,
            f"{statistics.fmean(each['share'] for each in use):.2f}" if use else "–",
            f"{statistics.fmean(each['divergence'] for each in use):.2f}" if use else "–",
            f"{min(recalls):.3f}" if recalls else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _marks(runs: list[dict[str, Any]]) -> list[str]:
    return list(runs[0]["valid"])


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean
