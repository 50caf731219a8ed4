"""What the figures rest on: set-up, limits, machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hmn.index.clustering.reduction import PaperReduction
from hmn.paper import published
from hmn.paper.grid import PCA_TREE, ROWS, TEXT, WTA_HASH
from hmn.paper.network.search_budget import strategy_reads
from hmn.paper.preset import Preset
from hmn.paper.report.document import Block
from hmn.paper.verdicts.table import Table

SIMPLE_QUESTIONS = (81_004, 48_737)
"""Facts and training questions of SimpleQuestions, as far as it could be had."""
TEXT_ROWS = frozenset(row.name for row in ROWS if row.cells == TEXT)
STRATEGY_ROWS = frozenset(row.name for row in ROWS if row.strategy)
LOAD, COMMIT, DATE = "load", "commit", "date"
"""Beginnings of the names under which runs of one machine differ: load average, commit and date."""


def set_up(runs: Sequence[Mapping[str, Any]], preset: Preset) -> Block:
    """How the rows were trained and searched."""
    asked = max(
        (run["questions"] for run in runs),
        key=lambda one: int(one["artificial"]),
        default={"natural": 0, "artificial": 0},
    )
    settings = ", ".join(
        f"{name} {'all' if value is None else value}"
        for name, value in asdict(preset).items()
        if name not in {"transe", "name"}
    )
    transe = ", ".join(f"{name} {value}" for name, value in asdict(preset.transe).items() if name != "seed")
    more = " and of a larger table" if any(run.get("transe_facts") == "more" for run in runs) else ""
    reduction = PaperReduction()
    return Block(
        "Set-up",
        [
            f"Preset {preset.name}: {settings}.",
            f"Cells: TransE of PyTorch Geometric ({transe}, Euclidean distance, its seed that of the run), "
            f"trained on the facts of the memory{more}; subject and object at length 1, as the model "
            "compares them. Subject, relation and object side by side, or added where it says so. All cells, "
            "also text cells, are then multiplied by one number that brings the mean square of their "
            "coordinates to 1: the learning rate means nothing without their length, of which the paper says "
            "nothing.",
            f"Questions: {asked['natural']:,} natural and {asked['artificial']:,} artificial ones an epoch. "
            "An artificial question is made for every fact that no training question asks for: the words of "
            "the first name of its subject and all words of its relation (domain, type, property), the same "
            "in every epoch. Only the exact fact is right, also where other facts have the same subject and "
            "relation. Words that training never saw are left out of a question.",
            "Adam moves every word at every step by its momentum, as it does on a dense table; the words "
            "begin at normal random numbers. Training stops when validation fact_accuracy (with the row's "
            f"own search) has not risen above its best for {preset.patience} epochs, or after "
            f"{preset.epochs}; the best epoch is kept. (The paper stops when it has fallen for 3 epochs.)",
            f"Approximate searches are tuned before every epoch to cells / {preset.speed_up} reads, the "
            "grid of strategies, which scores all centroids in full, to cells / "
            f"{preset.strategies_speed_up}, on {preset.tuned_on} training questions as they are then. In "
            "training all cells that the search looks at are candidates (10-MIPS by clusters: the ten "
            "best of them). One setting of a structure is tuned (column tuned to), its others are these. "
            f"Clusters: spherical k-means on the paper's reduction (U = {reduction.u}, m = {reduction.m}), "
            "cells in full; hmn's: as hmn.ClusterIndex has them if nothing is set, one for 64 cells, "
            "without reduction, cells in codes of 4 bits, which count an eighth of a read, and the best "
            f"of them scored in full. As make_index takes them: {WTA_HASH.format(prefix=preset.prefix)} "
            f"and {PCA_TREE}. A strategy's parts have equal numbers of clusters, a block as many cells as "
            "they hold; at test time a question draws its own.",
            "The paper brought its structures to softmax sizes of about 20,000 cells for a batch; here they "
            "are brought to equal reads for a question, as it searches alone, and what a batch finds "
            "together differs.",
            "REINFORCE: one cell drawn from the full softmax, reward 1 for the right one, a moving average "
            "as its baseline. The first words prefer no cell, so about one question in as many as there are "
            "cells draws its right one, and all others teach nothing. Keyword filter: facts whose subject's "
            "name shares an n-gram of one to three words with the question that at most one fact in 500 (at "
            "least 8) has; then a softmax over them.",
            "Today's systems see a text for each name of a fact's subject, with the words of the relation. "
            "BM25: k1 = 1.5, b = 0.75. MiniLM: all-MiniLM-L6-v2 (mean of the hidden states, length 1), "
            "searched by faiss IVF with a list for 64 cells, of which 16 are read; trained by AdamW at 2e-5 "
            "(a tenth of warm-up, then linearly down) in one pass over the natural questions in batches as "
            "above, cosines times 20 in a softmax: over the right texts of the batch (in-batch negatives), "
            f"or over the union of each question's 4 best cells of the whole memory, encoded again every "
            f"{preset.sentences_renewed} steps for the search and afresh for the loss (4-MIPS attention).",
        ],
    )


def limits(runs: Sequence[Mapping[str, Any]], preset: Preset) -> Block:
    """What keeps the figures from saying more; only what is true of these runs, with their sizes."""
    facts = max((run["facts"] for run in runs), default=0)
    natural = max((run["questions"]["natural"] for run in runs), default=0)
    artificial = max((run["questions"]["artificial"] for run in runs), default=0)
    told = [
        f"The memory holds {facts:,} cells ({100 * facts / published.CELLS:.0f} % of the paper's "
        f"{published.CELLS:,}) and training has {natural:,} questions "
        f"({100 * natural / published.TRAIN:.0f} % of its {published.TRAIN:,}): our figures are not "
        "those of its set-up, and only differences between rows can be compared."
    ]
    if (facts, natural) == SIMPLE_QUESTIONS:
        told.append(
            "The data are SimpleQuestions as far as it could be had: all facts of its three parts, all "
            "validation questions, 64 % of the training questions (the rest could not be recovered). Many "
            "entities share a name. Who knows nothing but names, and guesses where they are equal, gets at "
            "most 86.6 % of the exact facts and 98.1 % of the pairs of subject and relation of the test "
            "questions right. 81,004 facts have 71,302 such pairs: where several facts share one, a question "
            "does not tell which is meant, and only one of them counts as the fact."
        )
    reads, most = strategy_reads(preset, facts), preset.many_clusters
    if 2 * most > reads and any(run["name"] in STRATEGY_ROWS for run in runs):
        told.append(
            f"The grid of strategies has {reads:,} reads, as many for each number of clusters. With "
            f"{most:,} of them most go to the centroids, and the few that are left buy one cluster or two "
            "(column tuned to). How the two numbers of clusters compare is therefore of this budget, and "
            "the rows with the larger one tell less of what a strategy can do."
        )
    if runs and Table(runs).split == "valid":
        told.append(
            "Without test questions, the best epoch is chosen on the questions whose accuracy is reported: "
            "the figures are a little too good."
        )
    if artificial:
        told.append(
            f"Training also asks {artificial:,} artificial questions, one for every fact that no training "
            "question asks for. The facts of the held-out questions are among them: what is held out is how "
            "people ask, not the facts."
        )
    if any(run["name"] in TEXT_ROWS for run in runs):
        told.append(
            "Text cells come from a model that was trained before and selected on the validation questions; "
            "the rows that use them are ahead of the others by that."
        )
    devices: dict[str, dict[str, None]] = {}
    for run in runs:
        devices.setdefault(str(run["device"]), {})[run["name"]] = None
    if len(devices) > 1:
        few, rows = min(devices.items(), key=lambda one: len(one[1]))
        told.append(
            f"{', '.join(rows)}: run on another device ({few}) than the others, as the last section says, "
            "perhaps beside other work. The seconds cannot be compared with theirs."
        )
    made: dict[tuple[str, int], set[int]] = {}
    for run in runs:
        if "cells_checksum" in run:
            made.setdefault((str(run["cells"]), int(run["seed"])), set()).add(run["cells_checksum"])
    most = max(map(len, made.values()), default=1)
    if most > 1:
        told.append(
            f"The rows were not all run in one place, and their cells were trained anew in each: {most} "
            "sets of vectors of one seed, which differ as processors round. Rows of different sets differ by "
            "that as well."
        )
    told.append(
        "Not in the paper, and chosen by us: the facts and settings of TransE, the length of the "
        "cells, the words of the artificial questions, the first vectors of the words, all settings "
        "of the approximate searches and the reads that they spend, and that training "
        "stops by the best epoch so far."
    )
    return Block("Limits", told)


def machine(runs: Sequence[Mapping[str, Any]]) -> Block:
    """On what the rows were run: a line for each machine and set of versions."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_machine(run["machine"]), []).append(run)
    most = max(map(len, groups.values()), default=0)
    lines = [_group(told, group, named=len(group) < most) for told, group in groups.items()]
    return Block("Machine, versions, seeds", lines)


def hardware(runs: Sequence[Mapping[str, Any]]) -> str:
    """The machines in a few words."""
    names = []
    for run in runs:
        found = run["machine"]
        cores = f" ({found['cores']} cores)" if found.get("cores") else ""
        names.append(f"{found['processor']}{cores}, {found.get('accelerator') or 'no accelerator'}")
    return "; ".join(dict.fromkeys(names))


def _machine(found: Mapping[str, Any]) -> str:
    known = {name: _value(value) for name, value in sorted(found.items()) if value is not None}
    return ", ".join(
        f"{name} {value}" for name, value in known.items() if not name.startswith((LOAD, COMMIT, DATE))
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_value(one)}" for name, one in value.items())
    return " ".join(map(_value, value)) if isinstance(value, list) else str(value)


def _group(told: str, group: Sequence[Mapping[str, Any]], *, named: bool) -> str:
    dates = sorted({str(run["date"]) for run in group})
    seeds = sorted({int(run["seed"]) for run in group})
    loads = [
        float(value[0] if isinstance(value, list) else value)
        for run in group
        for name, value in run["machine"].items()
        if name.startswith(LOAD) and value
    ]
    rows = f" ({', '.join(dict.fromkeys(run['name'] for run in group))})" if named else ""
    load = f"; load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    commits = Counter((run["machine"].get(COMMIT) or "not recorded")[:12] for run in group)
    made_by = ", ".join(f"{one} ({count})" if len(commits) > 1 else one for one, count in commits.items())
    return (
        f"{told}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}{load}; commit {made_by}; "
        f"seeds {', '.join(map(str, seeds))}; {len(group)} run{'' if len(group) == 1 else 's'}{rows}."
    )
