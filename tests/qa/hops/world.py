"""A small world of chains, and what a chain reaches, by brute force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hmn.facts.table import FactTable

Triple = tuple[str, str, str]


def triples(people: int = 40, seed: int = 0) -> list[Triple]:
    """People who live in towns, which lie in countries, which have currencies; people have friends."""
    rng = np.random.default_rng(seed)
    rows: set[Triple] = set()
    for number in range(people):
        rows.add((f"person {number}", "lives in", f"town {rng.integers(12)}"))
        for friend in rng.choice(people, 2, replace=False):
            if friend != number:
                rows.add((f"person {number}", "friend", f"person {friend}"))
    rows |= {(f"town {number}", "lies in", f"country {number % 5}") for number in range(12)}
    rows |= {(f"country {number}", "currency", f"coin {number % 3}") for number in range(5)}
    return sorted(rows)


def table(seed: int = 0) -> FactTable:
    return FactTable.from_triples(triples(seed=seed), inverse=True)


def reached(
    facts: FactTable,
    start: int,
    share: Sequence[NDArray[np.float64]],
    back: Sequence[float],
    weight: Mapping[int, float] | None = None,
) -> list[dict[int, float]]:
    """Weights of the entities after each hop from a start, fact by fact, in plain Python.

    Args:
        facts: the table.
        start: where chains begin.
        share: shares of all relations, by hop.
        back: how far chains may return to the start, by hop.
        weight: weights of the entities before the first of these hops; the start alone if not given.
    """
    weight, found = weight or {start: 1.0}, []
    for hop, shares in enumerate(share):
        after: dict[int, float] = defaultdict(float)
        for entity, mass in weight.items():
            objects: dict[int, list[int]] = defaultdict(list)
            for fact in np.flatnonzero(facts.subject == entity):
                objects[int(facts.relation[fact])].append(int(facts.object[fact]))
            for relation, ends in objects.items():
                each = {end: back[hop] if end == start else 1.0 for end in ends}
                others = sum(end != start for end in ends)
                whole = sum(each.values()) if others else float(len(ends))
                for end in ends:
                    after[end] += mass * shares[relation] * each[end] / whole
        weight = dict(after)
        found.append(weight)
    return found
