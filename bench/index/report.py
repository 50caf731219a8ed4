"""The figures as JSON and Markdown; targets are reported as met or missed, never asserted."""

from __future__ import annotations

import inspect
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.index import attention
from bench.index.rounds import OURS, REFERENCE, label, ratios
from bench.machine import described
from hmn.index.clustering.kmeans import POINTS_PER_CLUSTER
from hmn.index.structures.cluster import ClusterIndex
from hmn.store.atomic import write_atomically

SCANN = ("ScaNN", "ScaNN SOAR")
WANTED = {  # by data set: times faiss IVF-Flat, times the best ScaNN
    "a": (4.0, 1.5),
    "b": (3.0, 1.2),
}
# Why a target is missed, as a profile shows it, by its name in the table.
REASONS: dict[str, str] = {}
METHOD = """\
Every system runs in a process of its own with {threads} thread(s); one works at a time. It only answers with
ids: scores and recall@10 are computed here, against exact search, and any of several tied cells counts. On
one half of the queries each system is tuned: for every build and every other setting the least effort
(probes, leaves, ef) that reaches recall {target}, then the fastest of these, for batches of 256 and of 1
separately. On the other half all systems take turns, {rounds} rounds of {round_seconds} s each; a setting
that misses the target there gets more effort until it reaches it. Ratios are medians over the rounds of
one run, with the least and the most. Reads are the bytes touched for a query, divided by those of one
float32 key, where a system lets them be known.

Clusters are trained as each system does by itself: hmn by {iterations} rounds of k-means after k-means||,
on at most {points} keys a cluster; faiss by 10 rounds on at most 256; ScaNN by 12 rounds on at most 250,000
keys in all. The machine's load, in processes that want to run, was {load_average_at_start} when the benchmark
began and {load_average_at_end} when it ended, its own included."""
Ratio = tuple[float, float, float]


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``index.json`` and ``index.md``."""
    results["must_show"] = must_show(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "index.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / "index.md", markdown(results).encode())


def spread(values: Iterable[float]) -> Ratio:
    """Median, least and most."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[-1]


def must_show(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with what was measured; ``measured`` is None where it was not."""
    lines: list[dict[str, Any]] = []

    def line(name: str, wanted: float, measured: list[float] | None) -> None:
        found = None if measured is None else spread(measured)
        verdict = "not measured" if found is None else "met" if found[0] >= wanted else "missed"
        lines.append({"target": name, "wanted": wanted, "measured": found, "verdict": verdict})

    for data, found in results["data"].items():
        wanted_lists, wanted_scann = WANTED.get(data, WANTED["a"])
        many, one = found["rounds"]["256"], found["rounds"]["1"]
        line(f"({data}) batch 256, times {REFERENCE}", wanted_lists, ratios(many, OURS, REFERENCE))
        best = max(
            (row for row in SCANN if row in many),
            key=lambda row: statistics.median(many[row]["speeds"]),
            default=SCANN[0],
        )
        line(f"({data}) batch 256, times the best ScaNN", wanted_scann, ratios(many, OURS, best))
        line(f"({data}) batch 1, times {REFERENCE}", 1.0, ratios(one, OURS, REFERENCE))
        line(f"({data}) build, times {REFERENCE}", 1.0, _build_ratios(found))
    layers = results.get("attention", {}).get("layers", {})
    for name, wanted in ((attention.SOFTMAX, 50.0), (attention.THEIRS, 2.0)):
        both = name in layers and attention.OURS in layers
        line(f"attention, times {name}", wanted, _step_ratios(layers, name) if both else None)
    return lines


def _build_ratios(found: dict[str, Any]) -> list[float] | None:
    """Faiss's seconds by ours, build by build."""
    if "builds" not in found:
        return None
    seconds = found["builds"]["seconds"]
    return [theirs / ours for theirs, ours in zip(seconds[REFERENCE], seconds[OURS], strict=True)]


def _step_ratios(layers: dict[str, Any], name: str) -> list[float]:
    """Seconds of a layer's steps by those of ours, round by round."""
    return [
        other / ours
        for other, ours in zip(layers[name]["steps"], layers[attention.OURS]["steps"], strict=True)
    ]


def markdown(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    options = results["options"]
    versions = ", ".join(f"{name} {number or 'missing'}" for name, number in results["versions"].items())
    lines = ["# Search structures beside the libraries that people use", ""]
    lines += [f"`{results['command']}`. {described(results['machine'])}; {versions}.", ""]
    effort = {"iterations": inspect.signature(ClusterIndex).parameters["iterations"].default}
    effort |= {"points": POINTS_PER_CLUSTER}
    load = {"load_average_at_start": results["machine"]["load_average_at_start"]}
    load |= {"load_average_at_end": results["load_average_at_end"]}
    lines += [METHOD.format(**options, **effort, **load), "", "## Targets", ""]
    rows = [
        [one["target"], f"at least {one['wanted']:g}", _ratio(one["measured"]), f"**{one['verdict']}**"]
        for one in results["must_show"]
    ]
    lines += table(["ratio of speeds", "wanted", "measured (least to most)", ""], rows)
    names = [one["target"] for one in results["must_show"] if one["verdict"] == "missed"]
    lines += [f"- {name}: {REASONS[name]}" for name in names if name in REASONS]
    for data, found in results["data"].items():
        lines += _data_set(data, found)
    if "attention" in results:
        lines += _attention(results["attention"])
    notes = [note for found in results["data"].values() for note in found["notes"]]
    notes += results.get("attention", {}).get("notes", [])
    if notes:
        lines += ["## Left out", "", *[f"- {note}" for note in notes], ""]
    return "\n".join(lines) + "\n"


def _data_set(data: str, found: dict[str, Any]) -> list[str]:
    about = found["about"]
    lines = [f"## ({data}) {about['cells']:,} cells of {about['features']} features", ""]
    tuned, measured = about["queries"]
    lines += [
        f"{about['about']}. {tuned:,} queries to tune with, {measured:,} to measure with; "
        f"seed {about['seed']}.",
        "",
    ]
    for batch in ("256", "1"):
        lines += [f"### Batch {batch}: recall@10 of the target or more", ""]
        rounds = found["rounds"][batch]
        by_speed = sorted(rounds, key=lambda row: -statistics.median(rounds[row]["speeds"]))
        rows = [_measured(row, rounds) for row in by_speed]
        head = [
            "",
            "queries a second",
            f"times {REFERENCE}",
            "recall@10",
            "reads",
            "built with",
            "searched with",
        ]
        lines += table(head, rows)
        short = [row for row in found["sweeps"] if row not in rounds]
        lines += [f"- {row} does not get there: {_most(found['sweeps'][row])}" for row in short]
        lines += ["", f"![speed against recall](index-{data}-{batch}.png)", ""][not short :]
    lines += [f"![recall against reads](index-{data}-reads.png)", "", "### Build and memory", ""]
    lines += [
        "Memory is what the process holds after the build more than before, the keys counted once. "
        "Of several builds, the one that is fastest at batch 256.",
        "",
    ]
    lines += table(
        ["", "built with", "build, s", "held, MiB", "at the most, MiB", "on disk, MiB"],
        [_built(row, found) for row in found["sweeps"]],
    )
    if "builds" in found:
        lines += ["In turn, with as many clusters:", ""]
        built = found["builds"]["builds"]
        rows = [[row, label(built[row]), _ratio(spread(s))] for row, s in found["builds"]["seconds"].items()]
        lines += table(["", "built with", "build, s"], rows)
    return lines


def _measured(row: str, rounds: dict[str, Any]) -> list[str]:
    one = rounds[row]
    times = ratios(rounds, row, REFERENCE)
    return [
        row,
        f"{statistics.median(one['speeds']):,.0f}",
        _ratio(None if times is None else spread(times)),
        f"{one['recall']:.4f}",
        "unknown" if one["reads"] is None else f"{one['reads']:,.0f}",
        label(one["build"]),
        label(one["setting"]),
    ]


def _built(row: str, found: dict[str, Any]) -> list[str]:
    sweeps = found["sweeps"][row]
    build = found["rounds"]["256"].get(row, {}).get("build", sweeps[0]["build"])
    one = next(sweep for sweep in sweeps if sweep["build"] == build)
    sizes = [f"{max(0, one[name]):,.0f}" for name in ("held_mib", "peak_mib", "disk_mib")]
    return [row, label(build), f"{one['build_seconds']:.1f}", *sizes]


def _most(sweeps: list[dict[str, Any]]) -> str:
    """The best recall of a row that misses the target."""
    points = [(point["recall"], one["build"], point) for one in sweeps for point in one["curve"]]
    recall, build, point = max(points, key=lambda entry: entry[0])
    return f"recall {recall:.3f} at most ({label(build)}; {label(point['setting'])})"


def _attention(found: dict[str, Any]) -> list[str]:
    layers = found["layers"]
    lines = [f"## Attention: {found['cells']:,} trained cells, batch {found['batch']}, k = {found['k']}", ""]
    lines += [
        "Forward and backward, keys and values trained. Layers with an index read at recall@32 of the target "
        "or more. The product-key memory has as many slots, one head, and a dense gradient.",
        "",
    ]
    rows = []
    for name, one in layers.items():
        step = spread(1e3 * seconds for seconds in one["steps"])
        times = spread(_step_ratios(layers, name)) if attention.OURS in layers else None
        probes = "" if one["probes"] is None else f", num_probes {one['probes']}"
        recall = f"{one['recall']:.4f}" if "recall" in one else ""
        rows.append(
            [
                name,
                _ratio(step),
                _ratio(times),
                recall,
                f"{one['peak_mib']:,.0f}",
                label(one["setting"]) + probes,
            ]
        )
    return lines + table(
        ["", "ms a step", "times as long as ours", "recall@32", "most memory, MiB", "setting"], rows
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, and an empty line."""
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *["| " + " | ".join(row) + " |" for row in rows],
        "",
    ]


def _ratio(found: Ratio | None) -> str:
    return "" if found is None else f"{found[0]:.2f} ({found[1]:.2f} to {found[2]:.2f})"
