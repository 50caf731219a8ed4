from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import hmn.qa.training.query_log as query_log
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.qa.training.query_log import QueryLog


class Pupil(HierarchicalIndex):
    """Records what it is taught."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Tensor, Tensor]] = []

    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:  # noqa: ARG002
        self.heard.append((query, cells))


def step(number: int, size: int = 3) -> dict[str, Tensor]:
    """Three questions from number * size on; the second has no right candidate."""
    right = torch.tensor([[True, True, False], [False, False, False], [False, False, True]])
    return {
        "query": torch.arange(number * size, (number + 1) * size).float().unsqueeze(1).repeat(1, 2),
        "cell": torch.tensor([10, 20, 30]) + 100 * number,
        "score": torch.tensor([[1.0, 2.0, 9.0], [1.0, 2.0, 3.0], [5.0, 4.0, -7.0]]),
        "right": right,
    }


def test_recent_queries_are_kept_with_their_best_right_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(query_log, "ENOUGH", 4)
    pupil = Pupil()
    log = QueryLog(pupil, kept=5)
    log.note(**step(0))
    log.teach()
    assert pupil.heard == [] and log.state()["query"].tolist() == [[0, 0], [2, 2]]
    for number in (1, 2):
        log.note(**step(number))
    log.teach()
    taught = dict(zip(pupil.heard[0][0][:, 0].tolist(), pupil.heard[0][1].tolist(), strict=True))
    assert taught == {2: 30, 3: 120, 5: 130, 6: 220, 8: 230}
    other = QueryLog(Pupil(), kept=5)
    other.load({name: value.clone() for name, value in log.state().items()}, 300)
    for each in (log, other):
        each.note(**step(3))
    states: list[dict[str, Any]] = [log.state(), other.state()]
    assert all(torch.equal(states[0][name], states[1][name]) for name in ("query", "cell", "seen"))


def test_nothing_is_kept_for_an_index_that_does_not_learn() -> None:
    log = QueryLog(ClusterIndex())
    log.note(**step(0))
    log.teach()
    assert log.state() == {}
    log.load({}, 9)
