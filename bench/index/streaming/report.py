"""The streaming benchmark's results as Markdown."""

from __future__ import annotations

from typing import Any

from bench.index.load.quiet import LIMIT
from bench.index.report.report import table
from bench.index.streaming.rows import STILL
from bench.machine import described

METHOD = """\
The runbooks have the format of the streaming track of big-ann-benchmarks: rows are inserted, deleted and
searched in turn. `sliding`: the rows in the order of the data set, a part at a time; half of them are in at a
time, and each insert is followed by a delete of the oldest part. `clustered`: the rows in clusters, which
come and go one by one and share by share, in several rounds. Searches have {queries} queries in batches of
{batch}, at every effort of a system; the answers are judged by exact search over the rows that are in. Recall
is the mean over all searches, as in big-ann, and the least of them. Each system has its first part alone for
its build, and its authors' usual settings. The first effort whose mean recall@10 reaches {target} is shown,
or the best. An effort that needs more than {patience} s for a search is given up.

Every system runs in a process of its own with {threads} thread(s), one after the other. {quiet}"""
"""Paragraphs on how the figures were measured."""
CHECKED = (
    f"A run counts only if other processes used {LIMIT} processors or less; otherwise it is repeated when "
    "the machine is quiet again, and refused in the end."
)
"""Sentence on the load of others."""


def shown(points: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """The first point whose mean recall reaches the target; the one of the highest recall if none does."""
    reached = [point for point in points if point["recall"] >= target]
    return reached[0] if reached else max(points, key=lambda point: float(point["recall"]))


def markdown(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{name} {number or 'missing'}" for name, number in results["versions"].items())
    options = results["options"]
    quiet = CHECKED if options["checked"] else "Nothing checked whether the machine was quiet."
    lines = [
        "# Rows that come and go",
        "",
        f"`{results['command']}`. {described(results['machine'])}; {versions}.",
    ]
    lines += ["", METHOD.format(**options, quiet=quiet), ""]
    notes = [f"{row}: {reason}" for row, reason in STILL.items()]
    for name, found in results["courses"].items():
        about = found["about"]
        lines += [f"## {name}", ""]
        lines += [
            f"{about['rows']:,} rows of {about['features']} features, {about['most']:,} at a time at most; "
            f"{about['steps']} steps, {about['searches']} of them searches.",
            "",
        ]
        picked = {row: shown(figures["points"], options["target"]) for row, figures in found["rows"].items()}
        order = sorted(
            picked, key=lambda row: (picked[row]["recall"] < options["target"], -picked[row]["speed"])
        )
        rows = [_line(row, picked[row], found["rows"][row]) for row in order]
        head = ["", "mean recall@10", "least", "queries per second", "inserts per second"]
        lines += table([*head, "deletes per second", "effort"], rows)
        notes += [f"{name}: {note}" for note in found["notes"]]
    lines += ["## Left out", "", *[f"- {note}" for note in notes], ""]
    return "\n".join(lines)


def _line(row: str, point: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    changes = ["" if figures[name] is None else f"{figures[name]:,.0f}" for name in ("inserts", "deletes")]
    recall = [f"{point[name]:.4f}" for name in ("recall", "least_recall")]
    return [row, *recall, f"{point['speed']:,.0f}", *changes, f"{point['effort']}"]
