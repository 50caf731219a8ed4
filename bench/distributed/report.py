"""The results of one memory over several processes as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


TEXTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "restarts": ("Killed ranks", _restarts),
}
"""Title of each part, and what makes its text."""
