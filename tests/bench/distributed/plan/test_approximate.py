"""Settings are chosen within a limit of reads on one half of the queries, and measured on the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench.distributed.plan.approximate import BUDGETS, PROBES, RESCORED, _chosen
from bench.distributed.plan.data import K, make
from torch import Tensor

from hmn.index.structures.exact import ExactIndex
from hmn.results import SearchResult


class Pretended:
    """A memory that finds a cell more per query for every other probe, and reads 25 cells per probe."""

    def __init__(self, keys: Tensor) -> None:
        self.exact, self.index = ExactIndex(keys), SimpleNamespace(effort=1, rescore=10, max_effort=64)

    def search(self, query: Tensor, k: int) -> SearchResult:
        found = self.exact.search(query, k)
        wrong = torch.arange(k) >= self.index.effort // 2
        reads = torch.full((len(query),), 25.0 * self.index.effort + self.index.rescore)
        return found._replace(cell=found.cell.masked_fill(wrong, -1), reads=reads)


def test_the_best_setting_within_each_limit_is_measured() -> None:
    made = make(500, 6)
    memory: Any = Pretended(made.keys)
    rows = _chosen("cluster", memory, made)
    wanted = [max(probes for probes in PROBES if 25 * probes + RESCORED[0] <= budget) for budget in BUDGETS]
    assert [row["effort"] for row in rows] == [min(probes, 24) for probes in wanted]  # 24 find all
    assert [row["recall"] for row in rows] == pytest.approx([min(K, row["effort"] // 2) / K for row in rows])
