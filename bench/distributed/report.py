"""The results of one memory over several processes as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.distributed.plan.report import TEXTS as PLAN
from bench.machine import described


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# One memory over several processes",
        "",
        "`make bench-distributed` (`python -m bench.distributed`; single parts with `--only`). All processes "
        "share one machine and talk over loopback; each has one thread.",
        "",
    ]
    for part, (title, text) in TEXTS.items():
        if part in results:
            lines += [f"## {title}", "", described(results[part]["machine"]), "", text(results[part]), ""]
    return "\n".join(lines)


def _restarts(found: dict[str, Any]) -> str:
    differ, kills = found["losses_that_differ"], found["kills"]
    equal = "equal" if found["weights_are_equal"] else "not equal"
    rows = [
        f"| rank {kill['rank']} | {kill['step']} | {kill['resumed_at']} | {kill['repeated_steps']} "
        f"| {kill['restart_seconds']} | {kill['seconds_until_as_far']} |"
        for kill in kills
    ]
    return "\n".join(
        [
            f"`torchrun --nproc-per-node {found['ranks']} --max-restarts {len(kills)}` trains an encoder and "
            f"{found['cells']:,} cells for {found['steps']:,} steps, with a checkpoint every "
            f"{found['every_seconds']:g} s. Random ranks are ended with `kill -9`, and the run is compared "
            "with one that was left alone.",
            "",
            "| ended | in step | continued at | steps repeated | seconds to start | seconds until as far |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Of {found['ranks'] * found['steps_done']:,} losses, those of repeated steps included, "
            f"{differ:,} differ from the run that was left alone (largest relative difference "
            f"{found['largest_relative_difference']:.1g}). The weights at the end are {equal} bit "
            f"for bit. The loss fell from {found['first_loss']:.3f} to {found['last_loss']:.3f}, in "
            f"{found['seconds_alone']:,} s left alone and {found['seconds_killed']:,} s with restarts.",
        ]
    )


def _same(found: dict[str, Any]) -> str:
    lines = [
        f"{found['cells']:,} cells of {found['features']} features with values, {found['queries']} queries "
        f"per step that read {found['k']} cells each, exact search, {found['steps']} training steps. Cells "
        "are compared with those of one process; of numbers, the largest relative difference. A gradient "
        "is that of one cell; lengths below the mean count as the mean.",
        "",
        "| ranks | cells | scores | loss | gradients of keys | of values | ties by id |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, ties in zip(found["compared"], found["ties"], strict=True):
        cells = "equal" if row["cells_equal"] else "differ"
        numbers = " | ".join(f"{row[name]:.1g}" for name in ("score", "loss", "keys", "values"))
        lines.append(f"| {row['ranks']} | {cells} | {numbers} | {'equal' if ties['equal'] else 'differ'} |")
    ties = found["ties"][0]
    lines += [
        "",
        f"Ties: keys and queries of whole numbers, in whose results {ties['tied']:,} cells score the same as "
        f"the one before; {ties['tied_at_end']} of {found['queries']} queries must choose among equal ones.",
        "",
        "Bytes that all ranks send, counted, for a search, for reading what it found, and for the gradients:",
        "",
        "| ranks | cells | search, per query | search | read | gradients | formula |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["bytes"]:
        sent = " | ".join(f"{number:,}" for number in row["sent"])
        formula = "equal" if row["sent"] == row["formula"] else f"{row['formula']}"
        per_query = f"{row['per_query']:,.0f}"
        lines.append(f"| {row['ranks']} | {row['cells']:,} | {per_query} | {sent} | {formula} |")
    memory = found["memory"]
    lines += [
        "",
        f"Memory of the rank that has most, beyond that of its process without cells: {memory['cells']:,} "
        f"cells of {memory['features']} features with values, and an index. Clusters are one per 64 "
        "cells. Goal: 1.15 / W.",
        "",
        "| index | ranks | resident, MB | share · W | peak while it is built, MB | share · W |",
        "|---|---|---|---|---|---|",
    ]
    for row in memory["rows"]:
        parts = (
            f"{row[name] / 1e6:,.0f} | {row['ranks'] * row[f'{name}_share']:.2f}" for name in ("now", "peak")
        )
        lines.append(f"| {row['index']} | {row['ranks']} | {' | '.join(parts)} |")
    return "\n".join(lines)


TEXTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "same": ("The same results, bytes and memory", _same),
    **PLAN,
    "restarts": ("Killed ranks", _restarts),
}
"""Title of each part, and what makes its text."""
