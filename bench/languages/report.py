"""The page of the benchmark of languages."""

from __future__ import annotations

from typing import Any

from bench.languages.world import LANGUAGES, TRAIN
from bench.machine import described


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = results["rows"]
    lines = ["# Languages", "", described(results["machine"]), "", "`make bench-languages`.", ""]
    lines += _same_table({code: rows[code] for code in LANGUAGES if code in rows})
    if "zh" in rows:
        lines += _chinese(rows["zh"])
    return "\n".join(lines)


def _same_table(rows: dict[str, Any]) -> list[str]:
    lines = [
        "## One table in nine languages",
        "",
        "Facts about cities and countries, with the names that these have in each language. All languages",
        f"ask for the same facts: {TRAIN:,} questions to train on, three phrasings per relation, with case",
        "endings, particles and prefixes as people write them. *Names alone* is what a system reaches that",
        "knows name and relation and draws among namesakes. The last columns say where the rest is lost.",
        "",
        "| language | pairs | of English | names alone | ties | wrong relation | wrong name | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    english = rows["en"]["valid"]["pair_accuracy"] if "en" in rows else None
    for code, row in rows.items():
        found = row["valid"]
        share = "" if english is None else f"{found['pair_accuracy'] / english:.3f}"
        pairs, most = f"{found['pair_accuracy']:.3f}", f"{found['ceiling']:.3f}"
        lost = [f"{value:.3f}" for value in found["lost"].values()]
        cells = [LANGUAGES[code], pairs, share, most, *lost, str(row["processor_minutes"])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Minutes are those of training, on one processor.", ""]


def _chinese(row: dict[str, Any]) -> list[str]:
    lines = [
        "## Places and poems of China",
        "",
        f"{row['facts']:,} facts with names in simplified and traditional characters (`splitting` is",
        f"`{row['splitting']}`), trained in {row['processor_minutes']} minutes of one processor. New",
        "phrasings are those of `bench/languages/phrases-chinese.tsv`, which training never saw.",
        "",
        "| questions | pairs | names alone | ties | wrong relation | wrong name |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("valid", "new phrasings"):
        found = row[name]
        lost = " | ".join(f"{value:.3f}" for value in found["lost"].values())
        lines.append(f"| {name} | {found['pair_accuracy']:.3f} | {found['ceiling']:.3f} | {lost} |")
    return [*lines, ""]
