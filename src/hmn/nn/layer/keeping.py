"""Keeps a search at a recall while keys and queries move."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn.index.protocol import Index, Tunable
from hmn.index.tuning import Tuned, recall_at_k, tune
from hmn.results import SearchResult

GAIN = 2.0
"""Growth of the effort, as a logarithm, per point of recall that is missing, in points of 1."""
MOST_CHANGED = 2.0
"""Factor by which the effort may move, up or down, until the search is tuned again."""


class RecallKeeper:
    """Moves the effort of a search so that its recall stays near a target.

    The first queries tune it. Later ones, now and then, show what it finds: the effort is raised a little
    where that is too few, and lowered where it is more than enough. Where it has moved far, the next queries
    tune it again.
    """

    def __init__(self) -> None:
        self._tuned = 0  # effort as of the last tuning
        self._effort = 0.0
        self._reached = True

    @property
    def is_due(self) -> bool:
        """Whether the next queries will tune the search, so that there should be some hundreds of them."""
        low, high = self._tuned / MOST_CHANGED, self._tuned * MOST_CHANGED
        return not self._tuned or not low <= self._effort <= high

    def tune(self, index: Index, query: Tensor, k: int, recall: float) -> Tuned | None:
        """Tune the search for queries ``(B, D)``; None where it has no effort."""
        if not isinstance(index, Tunable):
            return None
        tuned = tune(index, query, k, target_recall=recall)
        self._tuned, self._effort, self._reached = tuned.value, float(tuned.value), tuned.reached
        return tuned

    def keep(self, index: Index, keys: Tensor, query: Tensor, k: int, recall: float) -> None:
        """Correct the effort by what the search finds for queries ``(B, D)``, some dozens, among all keys.

        Args:
            index: the search.
            keys: ``(N, D)`` that it holds.
            query: ``(B, D)``.
            k: results per query.
            recall: the target.
        """
        if not isinstance(index, Tunable):
            return
        score, cell = (query @ keys.to(query).T).topk(min(k, len(keys)), dim=1)
        nothing = torch.zeros_like(cell[:, 0])
        found = recall_at_k(index.search(query, k), SearchResult(score, cell, nothing, nothing))
        effort = self._effort * math.exp(GAIN * (recall - found))
        # what no effort reached at the last tuning, more of it would not reach either
        most = math.inf if self._reached else self._tuned
        self._effort = min(max(effort, 1.0), most, float(index.max_effort))
        index.effort = round(self._effort)
