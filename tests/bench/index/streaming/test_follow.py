"""Following a runbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.index.score import best_scores
from bench.index.streaming.stream import Stream

from bench.index import data
from bench.index.streaming import follow


class Here:
    """Calls a stream in this process."""

    def __init__(self, _make: str, *arguments: Any) -> None:
        self.stream = Stream(*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.stream, method)(*arguments)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", follow.KINDS)
def test_exact_search_finds_all_that_is_in(
    kind: str, small: data.DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "Child", Here)
    course = follow.prepare(small, kind, tmp_path, parts=8)
    figures = follow.follow("hmn exact", course, 1)
    assert [point["least_recall"] for point in figures["points"]] == [1.0]
    assert figures["searches"] == sum(step.operation == "search" for step in course.runbook.steps) >= 8
    assert figures["inserts"] > 0
    assert figures["deletes"] > 0
    assert figures["points"][0]["speed"] > 0


def test_a_forgetful_system_is_noticed(
    small: data.DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "Child", Here)
    monkeypatch.setattr(Stream, "delete", lambda *_: 0.1)  # it keeps what it should delete
    course = follow.prepare(small, "sliding", tmp_path, parts=8)
    (point,) = follow.follow("hmn exact", course, 1)["points"]
    assert point["least_recall"] < 0.9


def test_efforts_that_take_too_long_are_given_up(
    small: data.DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Here):
        def call(self, method: str, *arguments: Any) -> Any:
            answer = super().call(method, *arguments)
            if method == "search" and arguments[0] >= 16:
                return follow.PATIENCE + 1, answer[1]
            return answer

    monkeypatch.setattr(follow, "Child", Slow)
    course = follow.prepare(small, "sliding", tmp_path, parts=8)
    points = follow.follow("hmn cluster", course, 1)["points"]
    assert [point["effort"] for point in points] == [4, 8]
    assert points[0]["recall"] <= points[1]["recall"]


def test_rows_that_are_not_in_count_nothing() -> None:
    keys = np.eye(20, dtype=np.float32) * np.arange(20, 0, -1, dtype=np.float32)[:, None]
    queries = np.ones((1, 20), dtype=np.float32)
    present = np.ones(20, dtype=bool)
    present[:5] = False
    best = best_scores(keys[present], queries, 10)
    assert follow.judged(keys, queries, np.arange(5, 15)[None], present, best) == 1
    assert follow.judged(keys, queries, np.arange(10)[None], present, best) == 0.5
    assert follow.judged(keys, queries, np.array([[5, 6, -1, 99, 7, 8, 9, 10, 11, 5]]), present, best) == 0.7


def test_clusters_lie_next_to_each_other() -> None:
    random = np.random.default_rng(0)
    middle = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    keys = (middle + 0.01 * random.standard_normal((100, 4)).astype(np.float32))[random.permutation(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "CLUSTERS", 4)
        order, sizes = follow.by_cluster(keys)
    assert sizes == [25] * 4
    nearest = keys[order].argmax(axis=1).reshape(4, 25)
    assert (nearest == nearest[:, :1]).all()
