"""The sections on what the figures rest on: set-up, limits, machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hmn.index.clustering.reduction import PaperReduction
from hmn.paper import published
from hmn.paper.grid import PAPERS_SPEED_UP, PCA_TREE, ROWS, TEXT, WIDE_WTA_HASH, WTA_HASH
from hmn.paper.network.attention.search_budget import strategy_reads
from hmn.paper.preset import Preset
from hmn.paper.report.document import Block
from hmn.paper.report.prose import paragraph, paragraphs
from hmn.paper.verdicts.table import Table

SIMPLE_QUESTIONS = (81_004, 48_737)
"""Facts and training questions of SimpleQuestions, as far as it could be obtained."""
TEXT_ROWS = frozenset(row.name for row in ROWS if row.cells == TEXT)
"""Names of the rows with text cells."""
STRATEGY_ROWS = frozenset(row.name for row in ROWS if row.strategy)
"""Names of the rows of the grid of strategies."""
LOAD = "load"
"""Beginning of the load average's name."""
COMMIT = "commit"
"""Name of the commit."""
CHANGING = (LOAD, COMMIT, "date")
"""Beginnings of the names whose values differ between runs on one machine."""


def set_up(runs: Sequence[Mapping[str, Any]], preset: Preset) -> Block:
    """How the rows were trained and searched."""
    asked = max(
        (run["questions"] for run in runs),
        key=lambda count: int(count["artificial"]),
        default={"natural": 0, "artificial": 0},
    )
    sizes = asdict(preset)
    transe = sizes.pop("transe")
    name = sizes.pop("name")
    reduction = PaperReduction()
    text = paragraphs(
        "set-up",
        "set-up",
        preset=name,
        settings=_listed({key: "all" if value is None else value for key, value in sizes.items()}),
        transe=_listed({key: value for key, value in transe.items() if key != "seed"}),
        more=" and of a larger table" if any(run.get("transe_facts") == "more" for run in runs) else "",
        u=reduction.u,
        m=reduction.m,
        wta_hash=WTA_HASH.format(prefix=preset.prefix),
        wide_wta_hash=WIDE_WTA_HASH,
        papers_speed_up=PAPERS_SPEED_UP,
        pca_tree=PCA_TREE,
        **asked,
        **sizes,
    )
    return Block("Set-up", text)


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def limits(runs: Sequence[Mapping[str, Any]], preset: Preset) -> Block:
    """What keeps the figures from saying more, as far as it is true of these runs."""
    facts = max((run["facts"] for run in runs), default=0)
    natural = max((run["questions"]["natural"] for run in runs), default=0)
    artificial = max((run["questions"]["artificial"] for run in runs), default=0)
    reads, clusters = strategy_reads(preset, facts), preset.many_clusters
    names = {run["name"] for run in runs}
    sizes = {
        "facts": facts,
        "facts_share": 100 * facts / published.CELLS,
        "paper_facts": published.CELLS,
        "natural": natural,
        "natural_share": 100 * natural / published.TRAIN,
        "paper_natural": published.TRAIN,
        "artificial": artificial,
        "reads": reads,
        "clusters": clusters,
    }
    true = {
        "sizes": True,
        "simple questions": (facts, natural) == SIMPLE_QUESTIONS,
        "strategies": 2 * clusters > reads and bool(names & STRATEGY_ROWS),
        "no test questions": bool(runs) and Table(runs).split == "valid",
        "artificial questions": artificial > 0,
        "text cells": bool(names & TEXT_ROWS),
    }
    texts = [paragraph("limits", section, **sizes) for section, holds in true.items() if holds]
    return Block("Limits", [*texts, *_other_places(runs), paragraph("limits", "choices")])


def _other_places(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Limits of runs on several devices, and of cells that were trained in several places."""
    texts = []
    devices: dict[str, dict[str, None]] = {}
    cells: dict[tuple[str, int], set[int]] = {}
    for run in runs:
        devices.setdefault(str(run["device"]), {})[run["name"]] = None
        if "cells_checksum" in run:
            cells.setdefault((str(run["cells"]), int(run["seed"])), set()).add(run["cells_checksum"])
    if len(devices) > 1:
        device, rows = min(devices.items(), key=lambda item: len(item[1]))
        texts.append(paragraph("limits", "another device", rows=", ".join(rows), device=device))
    sets = max(map(len, cells.values()), default=1)
    if sets > 1:
        texts.append(paragraph("limits", "several vectors", sets=sets))
    return texts


def machine(runs: Sequence[Mapping[str, Any]]) -> Block:
    """A line for each machine and set of versions that rows were run on."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_machine(run["machine"]), []).append(run)
    most = max(map(len, groups.values()), default=0)
    lines = [_group(name, group, named=len(group) < most) for name, group in groups.items()]
    return Block("Machine, versions, seeds", lines)


def hardware(runs: Sequence[Mapping[str, Any]]) -> str:
    """The machines in a few words."""
    names = []
    for run in runs:
        about = run["machine"]
        cores = f" ({about['cores']} cores)" if about.get("cores") else ""
        names.append(f"{about['processor']}{cores}, {about.get('accelerator') or 'no accelerator'}")
    return "; ".join(dict.fromkeys(names))


def _machine(about: Mapping[str, Any]) -> str:
    """What runs on one machine have in common, in words."""
    known = {name: _value(value) for name, value in sorted(about.items()) if value is not None}
    return ", ".join(f"{name} {value}" for name, value in known.items() if not name.startswith(CHANGING))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_value(part)}" for name, part in value.items())
    return " ".join(map(_value, value)) if isinstance(value, list) else str(value)


def _group(machine: str, group: Sequence[Mapping[str, Any]], *, named: bool) -> str:
    """A line on the runs of one machine, with the names of their rows if ``named``."""
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
    made_by = ", ".join(f"{name} ({count})" if len(commits) > 1 else name for name, count in commits.items())
    return (
        f"{machine}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}{load}; commit {made_by}; "
        f"seeds {', '.join(map(str, seeds))}; {len(group)} run{'' if len(group) == 1 else 's'}{rows}."
    )
