"""Find how far a structure must look: to reach a recall, or to spend a given number of reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.protocol import Index, Tunable
from hmn.index.structures.exact import ExactIndex
from hmn.results import SearchResult


@dataclass(frozen=True)
class Tuned:
    """What ``tune`` found, and left the index set to.

    Attributes:
        setting: the name of what was set.
        value: to what.
        recall: share of the k best cells that are found; one that scores the same counts as found.
        reads: reads a query, on average.
        reached: whether the target is met: the recall at least, or the reads within a tenth.
    """

    setting: str
    value: int
    recall: float
    reads: float
    reached: bool


def tune(
    index: Index,
    queries: Tensor,
    k: int = 10,
    *,
    target_recall: float | None = None,
    target_reads: float | None = None,
    best: SearchResult | None = None,
) -> Tuned:
    """Set an index so that it reaches a recall with the fewest reads, or spends a given number of reads.

    The second is the paper's "hyper-parameters varied so that the average speed-up is the same".

    Args:
        index: built, and of a structure that is ``Tunable``; its setting is changed.
        queries: ``(B, D)`` such as will be asked; some hundreds will do.
        k: results a query.
        target_recall: above 0, at most 1; give this or ``target_reads``.
        target_reads: more than 0.
        best: what is to be found for these queries; what exact search finds if not given.

    Raises:
        ConfigError: not exactly one target is given, it is out of its range, or there are no queries; the
            index has no setting to tune, or does not know its reads and is to spend a number of them.
    """
    if (target_recall is None) == (target_reads is None):
        raise ConfigError("give target_recall or target_reads, and only one of them")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise ConfigError(f"target_recall is {target_recall}, expected above 0 and at most 1")
    if target_reads is not None and not target_reads > 0:
        raise ConfigError(f"target_reads is {target_reads}, expected more than 0")
    if not len(queries):
        raise ConfigError("there are no queries, expected some hundreds such as will be asked")
    if not isinstance(index, Tunable):
        raise ConfigError(
            f"index is an {type(index).__name__}, which has no setting that trades reads for recall, "
            "expected a structure that looks at a part of the cells (cluster, hierarchy, wta-hash, pca-tree, "
            "faiss): leave this one as it is, or make another"
        )
    name, most, before = index.effort_name, index.max_effort, index.effort
    best = _best(index, queries, k) if best is None else best

    def tried(value: int) -> Tuned:
        index.effort = value
        found = index.search(queries, k)
        recall, reads = recall_at_k(found, best), float(found.reads.mean())
        if target_reads is not None and math.isnan(reads):
            index.effort = before
            raise ConfigError(
                f"the reads of this {index.stats()['structure']} are unknown, expected an index that counts "
                f"them to spend {target_reads} a query: give target_recall instead"
            )
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
    index.effort = chosen.value
    return chosen


def _best(index: Index, queries: Tensor, k: int) -> SearchResult:
    """What exact search finds in the same cells; their keys are shared, not copied."""
    state, exact = index.state_dict(), ExactIndex()
    state.pop("rows.checksum", None)  # these are its keys
    exact.load_state_dict(state, state["rows.keys"])
    return exact.search(queries, k)


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
