"""Find how far a structure must look: to reach a recall, or to spend a given number of reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.checks import as_tensor
from hmn.index.protocol import Index, Tunable
from hmn.index.structures.exact import ExactIndex
from hmn.results import SearchResult

MARGIN = 1.64
"""Standard errors by which a recall must exceed its target: 19 times in 20, unseen queries then reach it."""

LITTLE = 0.005
"""Recall that is given up for fewer reads where no setting reaches the target."""


@dataclass(frozen=True)
class Tuned:
    """What ``tune`` set an index to, and what that gives.

    Attributes:
        setting: name of the setting that was tuned.
        value: value that the index was left with.
        recall: share of the k best cells that are found; one that scores the same counts as found.
        reads: reads per query, on average.
        reached: whether the target is met: at least the recall, or the reads within a tenth.
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
    margin: float = MARGIN,
) -> Tuned:
    """Set how far an index looks: to reach a recall with the fewest reads, or to spend a number of reads.

    If no setting reaches the recall, the index is left with the fewest reads that give almost as much as the
    widest search, and the target itself if that search reaches it: where short codes lose the best cells,
    more reads add nothing.

    Spending equal reads is how the paper compares structures: "hyper-parameters varied so that the average
    speed-up is the same".

    Args:
        index: a built index that is ``Tunable``; its setting is changed.
        queries: ``(B, D)`` queries like those that will be asked; some hundreds will do. The more there are,
            the less is spent on ``margin``.
        k: results per query. Of an index that wants fewer (``HierarchicalIndex.wanted``), those count.
        target_recall: recall to reach, above 0 and at most 1; give this or ``target_reads``.
        target_reads: reads per query to spend, above 0.
        best: the results that count as right for these queries; those of exact search if not given.
        margin: standard errors by which the recall of these queries must exceed ``target_recall``, so that
            others reach it as well; 0 for none.

    Raises:
        ConfigError: not exactly one target is given, it is out of its range, or there are no queries; the
            index has no setting to tune; or it does not count its reads, and ``target_reads`` is given.
    """
    if (target_recall is None) == (target_reads is None):
        got = "neither" if target_recall is None else "both"
        raise ConfigError(f"got {got} of target_recall and target_reads, expected exactly one of them")
    _check_number("target_recall", target_recall)
    _check_number("target_reads", target_reads)
    _check_number("margin", margin)
    if not 0 <= margin < math.inf:
        raise ConfigError(f"margin is {margin}, expected a number of standard errors, 0 or more")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise ConfigError(f"target_recall is {target_recall}, expected above 0 and at most 1")
    if target_reads is not None and not target_reads > 0:
        raise ConfigError(f"target_reads is {target_reads}, expected more than 0")
    queries = as_tensor(queries, "queries", floats=True)
    if queries.dim() and not len(queries):
        raise ConfigError("there are no queries, expected some hundreds like those that will be asked")
    if not isinstance(index, Tunable):
        raise ConfigError(
            f"index is of type {type(index).__name__}, which has no setting that trades reads for recall, "
            "expected a structure that looks at only part of the cells (cluster, hierarchy, wta-hash, "
            "pca-tree, faiss): make one of these, or do not tune"
        )
    name, best = index.effort_name, _best(index, queries, k) if best is None else best
    counted = min(k, getattr(index, "wanted", None) or k)
    best = SearchResult(best.score[:, :counted], best.cell[:, :counted], best.reads, best.cells_scored)
    before = getattr(index, name)  # all of the setting: the effort may be a part of it
    try:
        chosen = _search(index, queries, k, best, target_recall, target_reads, margin)
    except BaseException:
        setattr(index, name, before)
        raise
    index.effort = chosen.value
    return chosen


def _check_number(name: str, value: Any) -> None:
    """Refuse what is neither a number nor None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise ConfigError(f"{name} is {value!r}, expected a number")


def _search(
    index: Tunable,
    queries: Tensor,
    k: int,
    best: SearchResult,
    target_recall: float | None,
    target_reads: float | None,
    margin: float,
) -> Tuned:
    """Find the setting, see ``tune``; the index is left with any of those that were tried."""
    name, most = index.effort_name, index.max_effort
    lowest: dict[int, float] = {}  # by value, the recall of unseen queries at least
    trials: dict[int, Tuned] = {}
    sufficient = target_recall  # less than the target where no setting exceeds that by the margin
    must_reach = False  # whether the target itself is reached then

    def tried(value: int) -> Tuned:
        index.effort = value
        result = index.search(queries, k)
        share, reads = _shares(result, best), float(result.reads.mean())
        recall = _mean(share)
        lowest[value] = recall - margin * _standard_error(share)
        if target_reads is not None and math.isnan(reads):
            raise ConfigError(
                f"the reads of this {index.stats()['structure']} are unknown, expected an index that counts "
                f"them to spend {target_reads} per query: give target_recall instead"
            )
        if target_recall is not None:
            reached = recall >= target_recall
        else:
            assert target_reads is not None
            reached = abs(reads - target_reads) <= target_reads / 10
        trials[value] = Tuned(name, value, recall, reads, reached)
        return trials[value]

    def enough(trial: Tuned) -> bool:
        if target_reads is not None:
            return trial.reads >= target_reads
        assert sufficient is not None
        return lowest[trial.value] >= sufficient and (trial.reached or not must_reach)

    low = high = tried(1)
    while not enough(high) and high.value < most:
        low, high = high, tried(min(2 * high.value, most))
    if target_recall is not None and not enough(high):
        sufficient, must_reach = lowest[high.value] - LITTLE, high.reached
        high = trials[min(value for value in trials if enough(trials[value]))]
        low = trials[max((value for value in trials if value < high.value), default=high.value)]
    # recall and reads rise with the setting, so the first value that is enough lies between the two
    while enough(high) and high.value - low.value > 1:
        middle = tried((low.value + high.value) // 2)
        low, high = (low, middle) if enough(middle) else (middle, high)
    if target_reads is not None and abs(low.reads - target_reads) < abs(high.reads - target_reads):
        return low
    return high


def _best(index: Index, queries: Tensor, k: int) -> SearchResult:
    """What exact search finds in the same cells; their keys are shared, not copied."""
    state, exact = index.state_dict(), ExactIndex()
    state.pop("rows.checksum", None)  # checking it would cost a pass over the keys
    exact.load_state_dict(state, state["rows.keys"])
    return exact.search(queries, k)


def recall_at_k(found: SearchResult, exact: SearchResult) -> float:
    """Mean share of the k best cells that were found; a cell that scores the same counts as found.

    Args:
        found: results ``(B, k)`` with true scores.
        exact: the results of exact search.
    """
    return _mean(_shares(found, exact))


def _mean(share: Tensor) -> float:
    return float(share.mean()) if len(share) else 1.0


def _standard_error(share: Tensor) -> float:
    return float(share.std()) / math.sqrt(len(share)) if len(share) > 1 else 0.0


def _shares(found: SearchResult, exact: SearchResult) -> Tensor:
    """The recall ``(B,)`` of each query; see ``recall_at_k``."""
    used = exact.cell >= 0  # (B, k)
    last = exact.score.masked_fill(~used, torch.inf).amin(dim=1, keepdim=True)
    slack = 1e-5 * last.abs().clamp(min=1e-6)
    right = ((found.score >= last - slack) & (found.cell >= 0)).sum(dim=1).double()
    wanted = used.sum(dim=1).double()  # (B,)
    share: Tensor = torch.where(wanted > 0, right.clamp(max=wanted) / wanted.clamp(min=1), 1.0)
    return share
