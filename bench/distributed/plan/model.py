"""What a search over W ranks costs: seconds, bytes and memory, from constants measured on one machine.

A search has these parts: each rank sends its queries to all others, searches its shard for the queries of all
ranks, sends the k best back, and merges what comes for its own queries. All ranks do each part at once, and
no part overlaps with the next one, as in ``ShardedIndex.search``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FLOAT = 4
"""Bytes of a number."""
HEADER = 16
"""Bytes before the rows of an exchange, between two ranks and in one direction."""
EXCHANGES = 2
"""Exchanges of a search: queries, and results. Each swaps headers with the other ranks, and then rows."""
FULL_BATCH = 64
"""Queries per search from which on the seconds per query no longer fall."""


@dataclass(frozen=True)
class Growth:
    """Seconds per query of a search in one shard, ``fixed + factor · N ** power``."""

    fixed: float
    factor: float
    power: float

    def seconds(self, cells: float) -> float:
        """Seconds per query in a shard of this many cells."""
        return self.fixed + self.factor * math.pow(cells, self.power)


@dataclass(frozen=True)
class Costs:
    """Constants of one machine with one core per rank.

    Attributes:
        alone: search of a query that is asked alone.
        batched: search of a query in a batch of ``FULL_BATCH`` or more.
        overhead: seconds of a search that are neither those of the index nor of messages.
        wait: seconds of a swap of messages with the other ranks in which the processor waits.
        swap: seconds of the processor for a swap, with however many ranks.
        message: seconds of the processor for each of these ranks.
        byte: seconds per byte on the way.
        candidate: seconds per candidate that is merged.
        index_bytes: bytes of the index per cell.
    """

    alone: Growth
    batched: Growth
    overhead: float
    wait: float
    swap: float
    message: float
    byte: float
    candidate: float
    index_bytes: float


@dataclass(frozen=True)
class Setting:
    """A memory over ranks, and a search in it.

    Attributes:
        cells: cells of all ranks, N.
        ranks: W.
        batch: queries of all ranks together in one search.
        features: D, and as many numbers per value.
        k: results per query.
        cores: cores that the ranks share; one per rank if None.
    """

    cells: float
    ranks: int
    batch: int
    features: int = 128
    k: int = 10
    cores: int | None = None


def search_bytes(ranks: int, features: int, k: int) -> int:
    """Bytes that all ranks together send per query of a search, without headers."""
    return (ranks - 1) * FLOAT * (features + 2 * k + 2)


def header_bytes(ranks: int) -> int:
    """Bytes of the headers that all ranks together send in one exchange."""
    return ranks * (ranks - 1) * HEADER


def read_bytes(features: int, values: int) -> int:
    """Bytes for a cell of another rank that is read, without headers."""
    return FLOAT + FLOAT * (features + values)


def gradient_bytes(features: int, values: int) -> int:
    """Bytes for the gradient of a cell of another rank, without headers."""
    return FLOAT * (features + values)


def seconds(costs: Costs, setting: Setting) -> float:
    """Seconds of a search, from the queries to their results, if nothing else runs."""
    return sum(parts(costs, setting).values())


def parts(costs: Costs, setting: Setting) -> dict[str, float]:
    """Seconds of each part of a search."""
    others = setting.ranks - 1
    # ranks that share cores take turns at all that needs the processor
    turns = 1.0 if setting.cores is None else max(1.0, setting.ranks / setting.cores)
    growth = costs.batched if setting.batch >= FULL_BATCH else costs.alone
    swaps = 2 * EXCHANGES if others else 0
    # a link carries both directions at once: what a rank sends, and as much that it receives
    sent = setting.batch * search_bytes(setting.ranks, setting.features, setting.k) / setting.ranks
    own = math.ceil(setting.batch / setting.ranks)  # queries of the rank that brings most
    return {
        "overhead": turns * costs.overhead,
        "search": turns * setting.batch * growth.seconds(setting.cells / setting.ranks),
        "messages": swaps * (costs.wait + turns * (costs.swap + others * costs.message)),
        "bytes": sent * costs.byte,
        "merge": turns * own * setting.ranks * setting.k * costs.candidate,
    }


def queries_per_second(costs: Costs, setting: Setting) -> float:
    """Queries per second of searches one after the other."""
    return setting.batch / seconds(costs, setting)


def memory(costs: Costs, setting: Setting) -> float:
    """Bytes of keys, values and index on each rank."""
    per_cell = 2 * FLOAT * setting.features + costs.index_bytes
    return setting.cells / setting.ranks * per_cell


def fitted(points: Sequence[tuple[float, float]], power: float | None = None) -> Growth:
    """The growth through measured points (cells, seconds per query).

    Args:
        points: at least two.
        power: power of N, with a fixed part beside it; least squares of relative errors. None: the power is
            fitted, without a fixed part; least squares of logarithms.
    """
    if power is None:
        slope, start = _line([(math.log(cells), math.log(spent)) for cells, spent in points])
        return Growth(0.0, math.exp(start), slope)
    factor, fixed = _line([(cells**power, spent) for cells, spent in points], relative=True)
    return Growth(max(0.0, fixed), factor, power)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and start of the line through points (x, y), by least squares of relative errors."""
    return _line(points, relative=True)


def _line(points: Sequence[tuple[float, float]], *, relative: bool = False) -> tuple[float, float]:
    weights = [1 / y**2 if relative else 1.0 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    both = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = both / spread
    return slope, mean_y - slope * mean_x


def costs_of(found: dict[str, Any], structure: str) -> Costs:
    """The constants that the part ``costs`` has measured, of one search structure."""
    sizes = found["shards"]
    power = 1.0 if structure == "exact" else None
    alone, batched = (
        fitted([(row["cells"], row[structure][name]) for row in sizes], power)
        for name in ("alone", "batched")
    )
    link = found["link"]
    return Costs(
        alone,
        batched,
        found["overhead"],
        link["wait"],
        link["swap"],
        link["message"],
        link["byte"],
        found["candidate"],
        0.0 if structure == "exact" else sizes[-1]["index_bytes"],
    )
