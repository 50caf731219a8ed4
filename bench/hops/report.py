"""The results of several hops as Markdown."""

from __future__ import annotations

from typing import Any

from bench.hops.metaqa import CLUSTERS
from bench.machine import described
from hmn.qa.config import READING, WORDS

TARGETS = {"found": ("0.968", "0.97", "0.95"), "given": ("0.973", "0.99", "0.97")}
"""Hits@1 to reach by number of hops, where topics are found and where they are given."""
PUBLISHED = (
    "Published systems are given the topic, and have ten times the training questions and all facts: "
    "EmbedKGQA, NSM, SSKGQA and TransferNet reach 0.973 to 0.991, 0.988 to 1.00 and 0.948 to 1.00; KV-MemNN "
    "0.96, 0.83 and 0.49."
)
"""Sentence on what others reach."""


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    most = results.get("most")
    command = "make bench-hops" if most is None else f"python -m bench.hops --most {most}"
    lines = ["# Questions of several hops", "", described(results["machine"]), "", f"`{command}`.", ""]
    for part in (_metaqa, _chains):
        lines += part(results)
    return "\n".join(lines) + "\n"


def _metaqa(results: dict[str, Any]) -> list[str]:
    figures = results.get("metaqa figures")
    if figures is None:
        return []
    training = results["metaqa training"]
    lines = [
        "## MetaQA",
        "",
        f"One model for all questions, trained in {training['processor_seconds'] / 60:.0f} minutes of one "
        f"processor ({training['training_peak_rss_gib']} GiB at most) from answers alone, on a tenth of the "
        f"published training questions: `{training['command']}`. The last epoch is kept, so the held-out "
        f"questions choose nothing. Hits@1 on {_counted(results.get('most'))}. {PUBLISHED}",
        "",
        "| | 1 hop | 2 hops | 3 hops |",
        "|---|---|---|---|",
    ]
    for topics in ("found", "given"):
        for index in dict.fromkeys(name.split(",")[0] for name in figures):
            found = [figures[f"{index}, {hops} hops, topics {topics}"]["hits_at_1"] for hops in (1, 2, 3)]
            lines.append(f"| topic {topics}, {index} | " + " | ".join(f"{hit:.4f}" for hit in found) + " |")
        lines.append(f"| topic {topics}, to reach | " + " | ".join(TARGETS[topics]) + " |")
    if "metaqa without topics" in results:
        hits = results["metaqa without topics"]["hits_at_1"]
        row = "| topic found, and not given in training, exact | "
        lines.append(row + " | ".join(f"{hit:.4f}" for hit in hits) + " |")
    if "metaqa ceiling" in results:
        most = list(results["metaqa ceiling"].values())
        rows = {
            "a reader that is given topic and relations": "relations given",
            "questions with a right answer at the end of any walk": "reachable",
        }
        for name, key in rows.items():
            lines.append(f"| {name} | " + " | ".join(f"{row[key]:.4f}" for row in most) + " |")
        lines += [
            "",
            "The reader that is given topic and relations walks over those relations that lead best to the "
            "answers of the training questions of the same phrasing. What it lacks is not in these facts: "
            "topics and films that they do not hold, and entities that tie.",
        ]
    lines += ["", f"Reads per question, hop by hop, with the topic found and {CLUSTERS:,} clusters:", ""]
    lines += ["| | 1 hop | 2 hops | 3 hops |", "|---|---|---|---|"]
    for index in dict.fromkeys(name.split(",")[0] for name in figures):
        found = [figures[f"{index}, {hops} hops, topics found"]["hop_reads"] for hops in (1, 2, 3)]
        cells = [" + ".join(f"{reads:,.0f}" for reads in hop) for hop in found]
        lines.append(f"| {index} | " + " | ".join(cells) + " |")
    if "metaqa milliseconds" in results:
        asked = ", ".join(f"{index} {ms} ms" for index, ms in results["metaqa milliseconds"].items())
        lines += ["", f"Median time of one question, asked alone: {asked}."]
    return [*lines, *_errors(results.get("metaqa errors", {})), ""]


def _counted(most: int | None) -> str:
    """The questions that were asked, in words."""
    return "the held-out questions" if most is None else f"the first {most:,} held-out questions of each file"


def _errors(lost: dict[str, Any]) -> list[str]:
    lines = ["", "### Where the remaining errors lie", ""] if lost else []
    for hops, kinds in lost.items():
        lines += [f"{hops} hop{'s' if hops != '1' else ''}, points of Hits@1 with the topic found:", ""]
        for kind, row in kinds.items():
            lines.append(f"- {row['points']:.2f}: {kind}")
            lines += [f"    - {example}" for example in row["examples"]]
        lines.append("")
    return lines


def _chains(results: dict[str, Any]) -> list[str]:
    runs = {stop_by: results.get(f"chains, stop by {stop_by}") for stop_by in (WORDS, READING)}
    spent = [run["processor_seconds"] / 60 for run in runs.values() if run]
    if not spent:
        return []
    lines = [
        "## Chains of up to four steps",
        "",
        "PathQuestion-like chains from the demo's world, one phrase per step, on topics that training never "
        f"saw; trained on one to three steps in {max(spent):.0f} minutes of one processor. Four steps are "
        "one more than in training. What decides whether a step is the last is either the words of the "
        "question or the reading: the relation that was read, and the one that is asked for next.",
        "",
        "| Hits@1 | 1 step | 2 steps | 3 steps | 4 steps |",
        "|---|---|---|---|---|",
    ]
    for stop_by, run in runs.items():
        if run is None:
            continue
        for topics in ("found", "given"):
            hits = [run[f"{steps} steps, topics {topics}"]["hits_at_1"] for steps in (1, 2, 3, 4)]
            lines.append(
                f"| stop by {stop_by}, topic {topics} | " + " | ".join(f"{hit:.3f}" for hit in hits) + " |"
            )
    return [*lines, ""]
