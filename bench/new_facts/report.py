"""The results as Markdown."""

from __future__ import annotations

from typing import Any

from bench.machine import described
from bench.new_facts.parametric import KINDS

SHOWN = ("pair_accuracy", "fact_accuracy", "answer_accuracy")
"""Figures on questions."""
METHODS = {"memory network, tuned": "writing, then training"}
"""Ways to add facts that the page calls otherwise."""


def report(results: dict[str, Any]) -> str:
    """All parts that are done."""
    lines = ["# Facts that come after training", ""]
    if results["share"] < 1:
        lines += [f"A trial with {results['share']:.0%} of the data.", ""]
    if "others" in results:  # one table for the memory network and the networks beside it
        results = {**results, "others": {**_joined(results), **results["others"]}}
    for name, show in {"writing": _writing, "others": _others, "speed": _speed}.items():
        if name in results:
            lines += [*show(results[name]), described(results[name]["machine"]), ""]
    return "\n".join(lines)


def _joined(results: dict[str, Any]) -> dict[str, Any]:
    """What the networks that know facts by their weights reached, of those that are done."""
    return {name: row for kind in KINDS for name, row in results.get(kind, {}).items() if name != "machine"}


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _writing(found: dict[str, Any]) -> list[str]:
    lines = ["## A tenth of the facts, written after training", ""]
    lines += [
        f"`make bench-new-facts`. SimpleQuestions without {found['new']:,} facts whose subjects training did "
        f"not see and without {found['relations']:,} facts of 5 % of the relations: {found['old']:,} facts "
        "are left, and the training questions about them. Then the others are written. Questions are those "
        "of valid.tsv about the facts; the questions of train.tsv about new facts, of which training saw "
        "none, are spelled otherwise. Where several facts read the same, each counts with its share.",
        "",
    ]
    for name in ("exact", "cluster"):
        through = found[name]
        rows = []
        labels = {
            "before": "old facts, before",
            "old": "old facts, after the new ones were written",
            "new": "new facts",
            "new, as in train": "new facts, questions of train.tsv",
            "new relations": "facts of new relations",
            "old, with all of it": "old facts, after all were written",
            "after removal": "old facts, after all were removed again",
            "new, built again": "new facts, with the index built again",
            "old, built again": "old facts, with the index built again",
        }
        for key, label in labels.items():
            if key not in through:
                continue
            row = through[key]
            rows.append(
                [
                    label,
                    f"{row['questions']:,}",
                    *(f"{row[one]:.4f}" for one in SHOWN),
                    f"{row['reads']:,.0f}",
                ]
            )
        lines += [f"Through `{through['index']}`:", ""]
        lines += _table(["questions about", "number", *SHOWN, "reads"], rows)
        if "index, built again" in through:
            lines += [f"Built again: `{through['index, built again']}`.", ""]
        lines += [
            f"Keys of old cells that changed: {through['keys that changed']}. Of the old questions, "
            f"{through['best facts that changed']:,} had another best fact after writing, "
            f"{through['of these, by a new fact']:,} of them a new one. After removal, "
            f"{through['best facts that removal does not restore']:,} had another best fact than before; "
            f"removed facts among the ten best answers to the questions about them: "
            f"{through['removed facts that are answered']}.",
            "",
        ]
    return lines


def _others(found: dict[str, Any]) -> list[str]:
    lines = ["## Writing, and training into weights", ""]
    lines += [
        f"A memory of {found['facts']:,} facts ({found['numbers in memory'] / 1e6:.1f} million numbers). New "
        "facts are written, or written and then trained on, as the words of subject and relation. *Words*: "
        "these are asked. *Questions*: natural ones, which no training saw. Shares of right answers; the "
        "drop is that of old facts, in points. Seconds are those of the processor, on one thread.",
        "",
    ]
    if any(f"{kind}, before" in found for kind in KINDS):
        lines += [
            "Networks with as many weights get the same queries, and know the facts by their weights.",
            "",
        ]
    rows = []
    for name, row in found.items():
        if not isinstance(row, dict) or "seconds per fact" not in row:
            continue
        method, _, count = name.rpartition(" ")
        before = found["before"]
        for kind in KINDS:
            before = found[f"{kind}, before"]["old"] if method.startswith(kind) else before
        drop = [100 * (before[one] - row["old"][one]) for one in ("words", "questions")]
        seconds = row["seconds per fact"]
        rows.append(
            [
                f"{int(count):,}",
                METHODS.get(method, method),
                *(f"{row['new'][one]:.3f}" for one in ("words", "questions")),
                *(f"{one + 0.0:.1f}" for one in (round(each, 1) for each in drop)),
                f"{seconds:.5f}",
            ]
        )
    head = [
        "new facts",
        "method",
        "new, words",
        "new, questions",
        "drop, words",
        "drop, questions",
        "s per fact",
    ]
    lines += _table(head, sorted(rows, key=lambda row: int(row[0].replace(",", ""))))
    lines += [
        f"Before: the memory network answers {found['before']['words']:.3f} of the old facts' words and "
    ]
    lines[-1] += f"{found['before']['questions']:.3f} of the questions. "
    for kind in KINDS:
        if f"{kind}, before" not in found:
            continue
        base = found[f"{kind}, before"]
        lines[-1] += (
            f"With {kind} ({base['weights'] / 1e6:.1f} million weights), {base['epochs']} epochs in "
            f"{base['seconds'] / 60:.0f} minutes teach {base['learned']:.3f} of what is taught: "
            f"{base['old']['words']:.3f} of the words and {base['old']['questions']:.3f} of the questions. "
        )
    return [*lines, ""]


def _speed(found: dict[str, Any]) -> list[str]:
    lines = ["## Facts per second", ""]
    lines += [
        "A thousand facts per call, each with a new subject of a name of its own, beside N facts; medians. "
        "The first call after loading copies the keys once. Removed: the same facts. Replaced: a thousand "
        "facts that are there get another object each. Clusters are one per 64 cells.",
        "",
    ]
    rows = [
        [
            index,
            f"{int(size):,}",
            f"{row['first call, s']:.2f}",
            *(f"{row[one]:,.0f}" for one in list(row)[1:]),
        ]
        for index, sizes in found.items()
        if index != "machine"
        for size, row in sizes.items()
    ]
    head = ["index", "N", "first call, s", "added", "added one by one", "ten per call", "removed", "replaced"]
    return lines + _table(head, rows)
