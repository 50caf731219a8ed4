"""The figures as JSON and Markdown; targets are reported as met or missed, never asserted."""

from __future__ import annotations

import inspect
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.index import attention
from bench.index.load.busy import BUSY
from bench.index.load.quiet import TRIES
from bench.index.rounds import OURS, REFERENCE, label, ratios
from bench.machine import described
from hmn.index.clustering.kmeans import POINTS_PER_CLUSTER
from hmn.index.structures.cluster import ClusterIndex
from hmn.store.atomic import write_atomically

SCANN = ("ScaNN", "ScaNN SOAR")
"""Rows of ScaNN."""
WANTED = {"a": (4.0, 1.5), "b": (3.0, 1.2)}
"""Speed-ups wanted over faiss IVF-Flat and over the best ScaNN, by data set."""
LOADED = 0.4
"""Share of its speed that our structure is to keep beside busy processes; half would be fair."""
REASONS: dict[str, str] = {}
"""Reason why a target is missed, as a profile shows it, by the target's name in the table."""
METHOD = """\
Every system runs in a process of its own with {threads} thread(s); one works at a time. It only answers with
ids: scores and recall are computed here, against exact search, and any of several tied cells counts. Each
system is tuned on one half of the queries: for every build and every other setting, find the least effort
(probes, leaves, ef) that reaches recall {target}, then choose the fastest, separately for batches of 256 and
of 1. On the other half all systems take turns, {rounds} rounds of {round_seconds} s each; a setting that
misses the target there gets more effort until it reaches it. Ratios are medians over the rounds of one run,
with minimum and maximum. Reads are the bytes touched per query, divided by the bytes of one float32 key,
where a system makes them known. For 100 results per query, each system keeps the builds that were fastest
for 10, and is tuned again. Libraries that need at least 64 features get keys with columns of zeros.

Each system trains its clusters in its own way: hmn with {iterations} rounds of k-means after k-means||, on at
most {points} keys per cluster; faiss with 10 rounds on at most 256; ScaNN with 12 rounds on at most 250,000
keys in total. {quiet}"""
"""Paragraphs on how the figures were measured, with placeholders for the options."""
QUIET = """\
A timing counts only if other processes used {limit} processors or less meanwhile: by /proc/stat, less what
the benchmark's own processes used. Otherwise it is repeated when the machine is quiet again, {tries} times at
most, and then refused: its row is named under "Left out". Beside the rows shown, others used {most}
processors at most."""
"""Paragraph on the load of others."""
UNCHECKED = "Nothing checked whether the machine was quiet: these figures only try the benchmark out."
"""The same for runs that check nothing."""
Ratio = tuple[float, float, float]
"""Median, minimum and maximum."""


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``NAME.json`` and ``NAME.md``; the results say their name."""
    results["must_show"] = must_show(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{results['name']}.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / f"{results['name']}.md", markdown(results).encode())


def spread(values: Iterable[float]) -> Ratio:
    """Median, minimum and maximum."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[-1]


def must_show(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with its measurement; ``measured`` is None if there is none."""
    lines: list[dict[str, Any]] = []

    def line(name: str, wanted: float, measured: list[float] | None) -> None:
        ratio = None if measured is None else spread(measured)
        verdict = "not measured" if ratio is None else "met" if ratio[0] >= wanted else "missed"
        lines.append({"target": name, "wanted": wanted, "measured": ratio, "verdict": verdict})

    for data, found in results["data"].items():
        batches, single = found["rounds"]["256"], found["rounds"]["1"]
        if data in WANTED:
            wanted_lists, wanted_scann = WANTED[data]
            line(f"({data}) batch 256, times {REFERENCE}", wanted_lists, ratios(batches, OURS, REFERENCE))
            best = _fastest(batches, SCANN) or SCANN[0]
            line(f"({data}) batch 256, times the best ScaNN", wanted_scann, ratios(batches, OURS, best))
            line(f"({data}) batch 1, times {REFERENCE}", 1.0, ratios(single, OURS, REFERENCE))
            line(f"({data}) build, times {REFERENCE}", 1.0, _build_ratios(found))
        for batch, rounds in (("256", batches), ("1", single)):
            ours = _fastest(rounds, [row for row in rounds if row.startswith("hmn")])
            other = _fastest(rounds, [row for row in rounds if not row.startswith("hmn")])
            faster = ratios(rounds, ours, other) if ours and other else None
            line(f"({data}) batch {batch}, our fastest times the fastest other", 1.0, faster)
        slower = slowdowns(batches.get(OURS, {}))
        kept = None if slower is None else [1 / times for times in slower]
        line(f"({data}) batch 256, share of its speed beside {BUSY} busy processes", LOADED, kept)
    layers = results.get("attention", {}).get("layers", {})
    for name, wanted in ((attention.SOFTMAX, 50.0), (attention.THEIRS, 2.0)):
        both = name in layers and attention.OURS in layers
        line(f"attention, times {name}", wanted, _step_ratios(layers, name) if both else None)
    return lines


def _fastest(rounds: dict[str, Any], rows: Iterable[str]) -> str | None:
    """The fastest of these rows by its median speed; None if none was measured."""
    measured = [row for row in rows if row in rounds]
    return max(measured, key=lambda row: statistics.median(rounds[row]["speeds"]), default=None)


def _build_ratios(found: dict[str, Any]) -> list[float] | None:
    """Faiss's seconds divided by ours, build by build."""
    if "builds" not in found:
        return None
    seconds = found["builds"]["seconds"]
    return [theirs / ours for theirs, ours in zip(seconds[REFERENCE], seconds[OURS], strict=True)]


def _step_ratios(layers: dict[str, Any], name: str) -> list[float]:
    """Seconds per step of a layer divided by those of ours, round by round."""
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
    lines += [METHOD.format(**options, **effort, quiet=_quiet(results)), "", "## Targets", ""]
    rows = [
        [line["target"], f"at least {line['wanted']:g}", _ratio(line["measured"]), f"**{line['verdict']}**"]
        for line in results["must_show"]
    ]
    lines += table(["ratio of speeds", "wanted", "measured (min to max)", ""], rows)
    names = [line["target"] for line in results["must_show"] if line["verdict"] == "missed"]
    lines += [f"- {name}: {REASONS[name]}" for name in names if name in REASONS]
    for data, found in results["data"].items():
        lines += _data_set(data, found, results["name"])
    if "attention" in results:
        lines += _attention(results["attention"])
    notes = [note for found in results["data"].values() for note in found["notes"]]
    notes += results.get("attention", {}).get("notes", [])
    if notes:
        lines += ["## Left out", "", *[f"- {note}" for note in notes], ""]
    return "\n".join(lines) + "\n"


def _quiet(results: dict[str, Any]) -> str:
    limit = results["options"]["limit"]
    if limit is None:
        return UNCHECKED
    rows = [
        row
        for found in results["data"].values()
        for rows in found["rounds"].values()
        for row in rows.values()
    ]
    most = max((others for row in rows for others in row["others"]), default=0.0)
    return QUIET.format(limit=limit, tries=TRIES, most=f"{most:.2f}")


def _data_set(data: str, found: dict[str, Any], name: str) -> list[str]:
    about = found["about"]
    recall = f"recall@{found['k']}"
    lines = [f"## ({data}) {about['cells']:,} cells of {about['features']} features, {recall}", ""]
    tuned, measured = about["queries"]
    lines += [
        f"{about['about']}. {tuned:,} queries for tuning, {measured:,} for measuring; seed {about['seed']}.",
        "",
    ]
    for batch in ("256", "1"):
        lines += [f"### Batch {batch}: {recall} at the target or above", ""]
        rounds = found["rounds"][batch]
        by_speed = sorted(rounds, key=lambda row: -statistics.median(rounds[row]["speeds"]))
        rows = [_measured(row, rounds) for row in by_speed]
        head = [
            "",
            "queries per second",
            f"times {REFERENCE}",
            recall,
            "reads",
            "built with",
            "searched with",
        ]
        lines += table(head, rows)
        lines += _beside_load(rounds)
        short = [row for row in found["sweeps"] if row not in rounds]
        lines += [f"- {row} does not reach the target: {_most(found['sweeps'][row])}" for row in short]
        lines += ["", f"![speed against recall]({name}-{data}-{batch}.png)", ""][not short :]
    lines += [f"![recall against reads]({name}-{data}-reads.png)", "", "### Build and memory", ""]
    lines += [
        "Memory is what the process holds after the build beyond what it held before; keys count once. "
        "Of several builds, the fastest at batch 256 is shown.",
        "",
    ]
    lines += table(
        ["", "built with", "build, s", "held, MiB", "peak, MiB", "on disk, MiB"],
        [_built(row, found) for row in found["sweeps"]],
    )
    if "builds" in found:
        lines += ["Built in turn, with the same number of clusters:", ""]
        built = found["builds"]["builds"]
        rows = [[row, label(built[row]), _ratio(spread(s))] for row, s in found["builds"]["seconds"].items()]
        lines += table(["", "built with", "build, s"], rows)
    return lines


def _measured(row: str, rounds: dict[str, Any]) -> list[str]:
    measured = rounds[row]
    times = ratios(rounds, row, REFERENCE)
    return [
        row,
        f"{statistics.median(measured['speeds']):,.0f}",
        _ratio(None if times is None else spread(times)),
        f"{measured['recall']:.4f}",
        "unknown" if measured["reads"] is None else f"{measured['reads']:,.0f}",
        label(measured["build"]),
        label(measured["setting"]),
    ]


def slowdowns(measured: dict[str, Any]) -> list[float] | None:
    """Speed on the quiet machine divided by that beside busy processes, round by round."""
    if "speeds_loaded" not in measured:
        return None
    pairs = zip(measured["speeds"], measured["speeds_loaded"], strict=True)
    return [quiet / loaded for quiet, loaded in pairs]


def _beside_load(rounds: dict[str, Any]) -> list[str]:
    """How much slower each system is beside busy processes, the least first."""
    found = {row: times for row in rounds if (times := slowdowns(rounds[row])) is not None}
    if not found:
        return []
    rows = [
        [row, f"{statistics.median(rounds[row]['speeds_loaded']):,.0f}", _ratio(spread(found[row]))]
        for row in sorted(found, key=lambda row: statistics.median(found[row]))
    ]
    lines = [
        f"Beside {BUSY} busy processes, which on as many processors leave each system half of its time:",
        "",
    ]
    return lines + table(["", "queries per second", "times slower (min to max)"], rows)


def _built(row: str, found: dict[str, Any]) -> list[str]:
    sweeps = found["sweeps"][row]
    build = found["rounds"]["256"].get(row, {}).get("build", sweeps[0]["build"])
    built = next(sweep for sweep in sweeps if sweep["build"] == build)
    seconds = f"{built['build_seconds']:.1f}" if built["load"] is None else f"refused: {built['load']}"
    sizes = [f"{max(0, built[name]):,.0f}" for name in ("held_mib", "peak_mib", "disk_mib")]
    return [row, label(build), seconds, *sizes]


def _most(sweeps: list[dict[str, Any]]) -> str:
    """The best recall of a row that misses the target."""
    points = [(point["recall"], sweep["build"], point) for sweep in sweeps for point in sweep["curve"]]
    recall, build, point = max(points, key=lambda entry: entry[0])
    return f"recall {recall:.3f} at most ({label(build)}; {label(point['setting'])})"


def _attention(found: dict[str, Any]) -> list[str]:
    layers = found["layers"]
    lines = [f"## Attention: {found['cells']:,} trained cells, batch {found['batch']}, k = {found['k']}", ""]
    lines += [
        "Forward and backward with trained keys and values. Layers with an index read at a recall@32 that "
        "reaches the target. The product-key memory has the same number of slots, one head and dense "
        "gradients.",
        "",
    ]
    rows = []
    for name, layer in layers.items():
        step = spread(1e3 * seconds for seconds in layer["steps"])
        times = spread(_step_ratios(layers, name)) if attention.OURS in layers else None
        probes = "" if layer["probes"] is None else f", num_probes {layer['probes']}"
        recall = f"{layer['recall']:.4f}" if "recall" in layer else ""
        rows.append(
            [
                name,
                _ratio(step),
                _ratio(times),
                recall,
                f"{layer['peak_mib']:,.0f}",
                label(layer["setting"]) + probes,
            ]
        )
    return lines + table(
        ["", "ms per step", "times as long as ours", "recall@32", "peak memory, MiB", "setting"], rows
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, followed by an empty line."""
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *["| " + " | ".join(row) + " |" for row in rows],
        "",
    ]


def _ratio(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"
