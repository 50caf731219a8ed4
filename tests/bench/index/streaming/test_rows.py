"""Every system that changes finds what is in, and nothing that is not."""

from __future__ import annotations

import numpy as np
import pytest
from bench.index.score import best_scores, recalls
from bench.index.streaming.rows import ROWS
from bench.index.systems.base import PackageMissingError

LEAST = {"NGT": 0.5}
"""Recall that a row reaches with its largest effort, if less than 0.9: a graph in loose parts."""


@pytest.mark.parametrize("row", ROWS)
def test_a_system_that_is_installed_follows_inserts_and_deletes(row: str) -> None:
    random = np.random.default_rng(0)
    keys = random.standard_normal((1200, 64)).astype(np.float32)
    queries = random.standard_normal((20, 64)).astype(np.float32)
    try:
        system = ROWS[row].make(1200 if ROWS[row].keeps_deleted else 800, 1)
    except PackageMissingError as error:
        pytest.skip(str(error))
    ids = np.arange(1200)
    system.begin(ids[:400], keys[:400])
    system.insert(ids[400:800], keys[400:800])
    system.delete(ids[100:500])
    system.insert(ids[800:], keys[800:])
    left = np.delete(ids, np.s_[100:500])
    found = system.search(queries, 10, system.efforts[-1])
    assert np.isin(found, [*left, -1]).all()
    best = best_scores(keys[left], queries, 10)
    assert recalls(keys, queries, found, best).mean() >= LEAST.get(row, 0.9)
