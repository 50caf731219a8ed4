"""What the lock of an index costs a search: searches with it and without it, in turns.

Run ``python -m bench.lock`` (``make bench-lock``); it writes ``bench/results/lock.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from bench.clusters import clusters_of
from bench.machine import described, machine, write_results
from hmn.index.registry import make_index
from hmn.index.structures.base import Structure

CELLS, FEATURES, K = 100_000, 64, 10
"""Size of the memory, and results per query."""
SEARCHES = {"cluster": 64, "hierarchy": 64, "wta-hash": 16, "pca-tree": 16, "exact": 4}
"""Searches per turn, one query each: a few milliseconds, in which the machine changes little."""
QUERIES = 4096
"""Queries that turns draw from."""
LIMIT = 2.0
"""Upper limit of the cost of the lock, in percent of a single cluster search."""
SEED = 0
"""Seed of keys, queries and structures."""


class Unlocked:
    """Stands in for the lock of an index while no other thread changes it."""

    writing = nullcontext()

    def enter(self) -> None:
        """Do nothing."""

    def leave(self) -> None:
        """Do nothing."""


def measure(name: str, keys: Tensor, queries: Tensor, rounds: int) -> dict[str, Any]:
    """Microseconds per search with the lock and without it, round by round."""
    settings = {} if name == "exact" else {"seed": SEED}
    if name == "cluster":
        settings["num_clusters"] = clusters_of(len(keys))
    index = make_index(name, **settings)
    assert isinstance(index, Structure)
    index.build(keys)
    index.search(queries[0], K)  # what is made at the first search needs the lock
    generator = torch.Generator().manual_seed(SEED)
    lock, spent = index._lock, dict[str, list[float]](locked=[], unlocked=[])
    for number in range(rounds + 1):
        batch = queries[torch.randint(len(queries), (SEARCHES[name],), generator=generator)]
        kinds = {"locked": lock, "unlocked": Unlocked()}
        for kind, held in kinds.items() if number % 2 == 0 else reversed(kinds.items()):
            vars(index)["_lock"] = held
            began = time.perf_counter()
            for query in batch:
                index.search(query, K)
            if number:  # the first round warms up
                spent[kind].append((time.perf_counter() - began) / SEARCHES[name] * 1e6)
    vars(index)["_lock"] = lock
    return spent


def summary(spent: dict[str, list[float]]) -> dict[str, float]:
    """Medians over the rounds: microseconds of both kinds, and the cost of the lock in percent."""
    pairs = list(zip(spent["locked"], spent["unlocked"], strict=True))
    return {
        "locked_us": statistics.median(spent["locked"]),
        "unlocked_us": statistics.median(spent["unlocked"]),
        "cost_percent": 100 * (statistics.median(locked / unlocked for locked, unlocked in pairs) - 1),
        "slower_rounds": statistics.fmean(locked > unlocked for locked, unlocked in pairs),
    }


def markdown(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    structures = results["structures"]
    verdict = "met" if structures["cluster"]["cost_percent"] <= LIMIT else "missed"
    lines = [
        f"# What the lock of an index costs: **{verdict}**",
        "",
        f"`python -m bench.lock`. {described(results['machine'])}.",
        "",
        f"Target: at most {LIMIT:.0f}% of a single cluster search. Single searches for the {K} best of "
        f"{CELLS:,} random cells of {FEATURES} features, one thread, at default settings, with "
        f"{clusters_of(CELLS):,} clusters. With the lock and without it in turns of a few milliseconds, "
        f"{results['rounds']} rounds; seed {SEED}. The cost is the median over the rounds. Chance alone "
        "would make a search with the lock slower in half of them.",
        "",
        "| | with the lock, µs | without, µs | cost | rounds in which it cost time |",
        "|---|---|---|---|---|",
    ]
    for name, found in structures.items():
        lines.append(
            f"| {name} | {found['locked_us']:,.2f} | {found['unlocked_us']:,.2f} | "
            f"{found['cost_percent']:.2f}% | {found['slower_rounds']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="turns of each kind")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    keys = torch.randn(CELLS, FEATURES, generator=generator)
    queries = torch.randn(QUERIES, 1, FEATURES, generator=generator)
    results: dict[str, Any] = {"rounds": given.rounds, "machine": machine(), "structures": {}}
    for name in SEARCHES:
        results["structures"][name] = summary(measure(name, keys, queries, given.rounds))
        print(f"{name}: {results['structures'][name]['cost_percent']:.2f}%", flush=True)
    write_results("lock", results, markdown(results))


if __name__ == "__main__":
    main()
