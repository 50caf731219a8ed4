"""Approximate search over several processes: recall at equal reads per query."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch

from bench.distributed.plan.data import K, Made, make
from bench.distributed.processes import TIMEOUT, run
from hmn.distributed import Ranks, ShardedMemory
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import recall_at_k
from hmn.nn import Memory
from hmn.results import SearchResult

CELLS, QUERIES = 200_000, 2_048
"""Cells, and queries: half to choose settings, half to measure."""
RANKS = (1, 2, 4)
"""Numbers of processes."""
BUDGETS = (300, 400, 600, 800, 1_200)
"""Limits of reads per query, of all ranks together."""
CLUSTERS, PROBES = 64, (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Cells per cluster, and clusters entered."""
REACHES = (25, 30, 35, 40, 45, 50, 60, 70, 85, 100)
"""Values of ``reach`` of the hierarchy."""
SEEDS = (1, 2, 3)
"""Other seeds of k-means, for one index."""
RESCORED = (10, 14, 18, 24, 36)
"""Cells scored in full for clusters, of all ranks together, whose cells have codes of 4 bits."""
RESCORED_EACH = (24, 36, 48, 72, 144)
"""Cells scored in full by each rank for the hierarchy."""


def measure(*, small: bool = False) -> dict[str, Any]:
    """Recall for each number of ranks: with the same settings, and within several limits of reads."""
    cells, rows, usual = CELLS // 10 if small else CELLS, [], []
    for ranks in RANKS:
        found = run(_measured, ranks, cells)[0]
        usual += found["usual"]
        rows += found["rows"]
    alone = [row for row in rows if row["structure"] == "cluster" and row["ranks"] == 1]
    seeds = run(_of_seeds, 1, cells, alone)[0]
    return {"cells": cells, "queries": QUERIES, "rows": rows, "usual": usual, "seeds": seeds}


def _measured(rank: int, size: int, cells: int) -> dict[str, Any]:
    """What a rank measures; rank 0 alone has queries, and its figures count."""
    made, ranks = make(cells, QUERIES, exact=not rank), Ranks(timeout=TIMEOUT)
    own = torch.tensor_split(made.keys, size)[rank].clone()
    made = made if not rank else made._replace(queries=made.queries[:0])
    usual, rows = [], []
    indexes = {"cluster": ClusterIndex(cells // CLUSTERS), "hierarchy": HierarchicalIndex()}
    for structure, index in indexes.items():
        memory = ShardedMemory(Memory(own), index, ranks=ranks)
        row = {"structure": structure, "ranks": size}
        usual.append({**row, **_figures(memory.search(made.half(1)[0], K), made, 1)})
        if structure == "cluster":
            memory = ShardedMemory(Memory(own), _clusters(cells), ranks=ranks)
        rows += [{**row, **chosen} for chosen in _chosen(structure, memory, made)]
    return {"usual": usual, "rows": rows}


def _of_seeds(_rank: int, _size: int, cells: int, alone: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recall of one index, with the settings chosen for it, for other seeds of k-means."""
    made, found = make(cells, QUERIES), []
    for seed in SEEDS:
        index = _clusters(cells, seed)
        index.build(made.keys)
        for row in alone:
            index.effort, index.rescore = min(row["effort"], index.max_effort), row["rescore"]
            figures = _figures(index.search(made.half(1)[0], K), made, 1)
            found.append({"budget": row["budget"], "seed": seed, **figures})
    return found


def _clusters(cells: int, seed: int = 0) -> ClusterIndex:
    """Clusters in two levels."""
    narrow = max(1, cells // CLUSTERS)
    return ClusterIndex((max(1, round(narrow**0.5)), narrow), (1, 1), seed=seed)


def _chosen(structure: str, memory: ShardedMemory, made: Made) -> list[dict[str, Any]]:
    """For each limit of reads, the setting of highest recall on the first half, measured on the second."""
    index: Any = memory.index

    def tried(effort: int, rescore: int, half: int) -> dict[str, float]:
        index.effort, index.rescore = min(effort, index.max_effort), rescore
        return _figures(memory.search(made.half(half)[0], K), made, half)

    memory.search(made.queries, K)  # builds the index
    settings = list(product(*((REACHES, RESCORED_EACH) if structure == "hierarchy" else (PROBES, RESCORED))))
    both = [[tried(effort, rescore, half) for effort, rescore in settings] for half in (0, 1)]
    rows = []
    for budget in BUDGETS:
        within = [number for number, figures in enumerate(both[0]) if figures["reads"] <= budget]
        if within:
            best = max(within, key=lambda number: both[0][number]["recall"])
            effort, rescore = settings[best]
            rows.append({"budget": budget, "effort": effort, "rescore": rescore, **both[1][best]})
    return rows


def _figures(found: SearchResult, made: Made, half: int) -> dict[str, float]:
    """Recall and reads of what was found for one half of the queries; zeros on a rank that has none."""
    if not len(found.cell):
        return {"recall": 0.0, "reads": 0.0}
    return {"recall": recall_at_k(found, made.half(half)[1]), "reads": float(found.reads.mean())}
