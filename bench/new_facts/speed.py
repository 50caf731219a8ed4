"""Facts per second that are written into tables of growing size."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.clusters import index_of
from hmn.facts.table import FactTable
from hmn.qa.build import build_network
from hmn.qa.factoid_qa import FactoidQA

SIZES = (10_000, 100_000, 1_000_000)
"""Numbers of facts, N."""
INDEXES = ("exact", "cluster", "wta-hash", "pca-tree", "hierarchy")
"""Indexes that follow."""
MOST_BUILT = 100_000
"""Most facts that structures are built for; exact search needs no build."""
AT_ONCE, BATCHES, SINGLE, TEN = 1_000, 5, 100, 10
"""Facts per call, such calls, calls with one fact each, and facts per small call."""
RELATIONS = 100
"""Number of relations."""


def table_of(words: list[str], first: int, count: int) -> FactTable:
    """Facts about subjects with names of two words each; ``first`` is the number of the first one."""
    rng = np.random.default_rng(first)
    drawn = rng.integers(len(words), size=(count, 2))
    names = {f"e{first + row}": [f"{words[a]} {words[b]}"] for row, (a, b) in enumerate(drawn)}
    relation, objects = rng.integers(RELATIONS, size=count), rng.integers(count, size=count)
    rows = [
        (f"e{first + row}", f"made/up/relation_{relation[row]}", f"e{first + objects[row]}")
        for row in range(count)
    ]
    return FactTable.from_triples(rows, names)


def model_of(facts: FactTable, index: str) -> FactoidQA:
    """A model that was never trained, which costs what a trained one does."""
    torch.manual_seed(0)
    qa = FactoidQA(facts, index=index_of(len(facts)) if index == "cluster" else index)
    qa._network = build_network(qa.config, qa.facts, qa.cells)
    qa.network.eval()
    qa.memory.renew()
    qa.network.indexed.rebuild()
    return qa


def measure(data: Path, sizes: tuple[int, ...] = SIZES, indexes: tuple[str, ...] = INDEXES) -> dict[str, Any]:
    """Seconds and facts per second, by index and number of facts."""
    lines = (data / "names.tsv").read_text(encoding="utf-8").splitlines()
    words = sorted({word for line in lines for word in line.split("\t")[1].split()})
    result: dict[str, Any] = {}
    for size in sizes:
        facts = table_of(words, 0, size)
        for index in indexes if size <= MOST_BUILT else indexes[:1]:
            qa = model_of(facts, index)
            result.setdefault(index, {})[str(size)] = _speeds(qa, words, size)
            print(index, size, result[index][str(size)], flush=True)
    return result


def _speeds(qa: FactoidQA, words: list[str], size: int) -> dict[str, float]:
    batches = [table_of(words, size + number * AT_ONCE, AT_ONCE) for number in range(BATCHES + 1)]
    rows = [[batch.fact(cell) for cell in range(AT_ONCE)] for batch in batches]
    names = [{fact.subject: [fact.subject_name], fact.object: [fact.object_name]} for fact in rows[-1]]
    changed = [
        (fact.subject, fact.relation, other.object)
        for fact, other in zip(rows[-1], [*rows[-1][1:], rows[-1][0]], strict=True)
    ]
    first = _seconds(lambda: qa.add_facts(batches[0]))
    added = [_seconds(lambda batch=batch: qa.add_facts(batch)) for batch in batches[1:-1]]
    single = [
        _seconds(lambda fact=fact, own=own: qa.add_facts([fact[:3]], own))
        for fact, own in zip(rows[-1][:SINGLE], names, strict=False)
    ]
    small = [
        _seconds(lambda facts=rows[-1][start : start + TEN]: qa.add_facts([fact[:3] for fact in facts]))
        for start in range(SINGLE, AT_ONCE, TEN)
    ]
    removed = [_seconds(lambda batch=batch: qa.remove_facts(batch)) for batch in batches[:-1]]
    replaced = _seconds(lambda: qa.replace_facts(changed))
    qa.ask("what is the made up relation of anything")
    return {
        "first call, s": first,
        "added per second": AT_ONCE / statistics.median(added),
        "one by one, per second": 1 / statistics.median(single),
        "ten per call, per second": TEN / statistics.median(small),
        "removed per second": AT_ONCE / statistics.median(removed),
        "replaced per second": AT_ONCE / replaced,
    }


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
