"""Find how far a structure must look: to reach a recall, or to spend a given number of reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.base import Index
from hmn.index.exact import ExactIndex
from hmn.typing import SearchResult


class Tunable(Index, Protocol):
    """An index with one setting that trades reads for recall and may be set at any time."""

    def knob(self) -> tuple[str, int]:
        """The setting's name and the largest value that makes a difference."""
        ...


@dataclass(frozen=True)
class Tuned:
    """What ``tune`` found, and left the index set to.

    Attributes:
        setting: the name of what was set.
        value: to what.
        recall: share of the true k best cells that are found; one that scores the same counts as found.
        reads: reads a query, on average.
        reached: whether the target is met: the recall at least, or the reads within a tenth.
    """

    setting: str
    value: int
    recall: float
    reads: float
    reached: bool


def tune(
    index: Tunable,
    queries: Tensor,
    k: int = 10,
    *,
    target_recall: float | None = None,
    target_reads: float | None = None,
) -> Tuned:
    """Set an index so that it reaches a recall with the fewest reads, or spends a given number of reads.

    The second is the paper's "hyper-parameters varied so that the average speed-up is the same".

    Args:
        index: built; its setting is changed.
        queries: ``(B, D)`` such as will be asked; some hundreds will do.
        k: results a query.
        target_recall: above 0, at most 1; give this or ``target_reads``.
        target_reads: more than 0.

    Raises:
        ConfigError: not exactly one target is given, it is out of its range, or there are no queries.
    """
    if (target_recall is None) == (target_reads is None):
        raise ConfigError("give target_recall or target_reads, and only one of them")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise ConfigError(f"target_recall is {target_recall}, expected above 0 and at most 1")
    if target_reads is not None and not target_reads > 0:
        raise ConfigError(f"target_reads is {target_reads}, expected more than 0")
    if not len(queries):
        raise ConfigError("there are no queries, expected some hundreds such as will be asked")
    name, most = index.knob()
    exact = ExactIndex()
    exact.load_state_dict(index.state_dict())
    best = exact.search(queries, k)

    def tried(value: int) -> Tuned:
        setattr(index, name, value)
        found = index.search(queries, k)
        recall, reads = recall_at_k(found, best), float(found.reads.mean())
        if target_recall is not None:
            return Tuned(name, value, recall, reads, recall >= target_recall)
        assert target_reads is not None
        return Tuned(name, value, recall, reads, abs(reads - target_reads) <= target_reads / 10)

    def enough(one: Tuned) -> bool:
        return one.reached if target_reads is None else one.reads >= target_reads

    high = tried(1)
    low = high
    while not enough(high) and high.value < most:
        low, high = high, tried(min(2 * high.value, most))
    # recall and reads rise with the setting, so the first value that is enough lies between the two
    while enough(high) and high.value - low.value > 1:
        middle = tried((low.value + high.value) // 2)
        low, high = (low, middle) if enough(middle) else (middle, high)
    chosen = high
    if target_reads is not None and abs(low.reads - target_reads) < abs(high.reads - target_reads):
        chosen = low
    setattr(index, name, chosen.value)
    return chosen


def recall_at_k(found: SearchResult, exact: SearchResult) -> float:
    """Share of the true k best cells that were found, whichever of equal ones, on average.

    Args:
        found: results ``(B, k)`` with true scores.
        exact: the results of exact search.
    """
    there = exact.cell >= 0
    last = exact.score.masked_fill(~there, torch.inf).amin(dim=1, keepdim=True)
    slack = 1e-5 * last.abs().clamp(min=1e-6)
    right = ((found.score >= last - slack) & (found.cell >= 0)).sum(dim=1).double()
    wanted = there.sum(dim=1).double()
    share: Tensor = torch.where(wanted > 0, right.clamp(max=wanted) / wanted.clamp(min=1), 1.0)
    return float(share.mean()) if len(share) else 1.0
