"""Runbooks in the format of big-ann-benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.index.streaming.runbook import Runbook, RunbookError, Step, clustered, read, sliding_window
from hypothesis import given, settings
from hypothesis import strategies as st

THEIRS = """
msturing-1M:
  max_pts: 8
  1:
    operation: "insert"
    start: 0
    end: 6
  2:
    operation: "search"
  3:
    operation: "delete"
    start: 2
    end: 4
  4:
    operation: "search"
  gt_url: "https://example.org/truth"
other:
  max_pts: 1
"""


def test_a_runbook_as_others_write_it_is_read(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "simple.yaml"
    file.write_text(THEIRS)
    book = read(file, "msturing-1M")
    assert (book.rows, book.most) == (8, 6)
    assert list(book.steps) == [Step("insert", 0, 6), Step("search"), Step("delete", 2, 4), Step("search")]
    with pytest.raises(RunbookError, match="no runbook of 'glove', expected one of msturing-1M, other"):
        read(file, "glove")
    with pytest.raises(RunbookError, match="expected 1, 2, 3"):
        read(file, "other")


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    book = clustered("words", [5, 9, 30], rounds=2, seed=1)
    book.write(tmp_path / "book.yaml")
    assert read(tmp_path / "book.yaml", "words") == book


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            [Step("insert", 0, 3), Step("insert", 2, 4)],
            "step 2 of x: insert of rows 2 to 4, .* that are not in",
        ),
        ([Step("insert", 0, 3), Step("delete", 2, 4)], "step 2 of x: delete of rows 2 to 4, .* that are in"),
        ([Step("search")], "step 1 of x: search while nothing is in"),
        ([Step("insert", 0, 9)], "rows of the 5 in order"),
        ([Step("insert", 3, 3)], "rows of the 5 in order"),
        ([Step("replace", 0, 1)], "expected one of insert, delete, search"),
    ],
)
def test_steps_that_cannot_be_followed_are_refused(steps: list[Step], said: str) -> None:
    with pytest.raises(RunbookError, match=said):
        Runbook("x", 5, steps)


def test_half_of_the_rows_are_in_a_sliding_window() -> None:
    book = sliding_window("x", 1003, 10)
    present = np.zeros(1003, dtype=bool)
    counts = []
    for step in book.steps:
        if step.operation == "search":
            counts.append(int(present.sum()))
            assert (np.diff(np.flatnonzero(present)) == 1).all(), "the window has no gaps"
        else:
            present[step.start : step.end] = step.operation == "insert"
    assert len(counts) == 10
    assert all(500 <= count <= 503 for count in counts[5:])
    assert np.flatnonzero(present)[-1] == 1002


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    rounds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_row_of_a_cluster_comes_once_and_most_go(sizes: list[int], rounds: int, seed: int) -> None:
    book = clustered("x", sizes, rounds, seed)
    assert book.steps == clustered("x", sizes, rounds, seed).steps
    inserted = sum(step.end - step.start for step in book.steps if step.operation == "insert")
    deleted = sum(step.end - step.start for step in book.steps if step.operation == "delete")
    assert inserted == sum(sizes) == book.rows
    assert deleted < inserted
    ends = np.cumsum(sizes)
    for step in book.steps:
        if step.operation != "search":
            inside = np.searchsorted(ends, [step.start, step.end - 1], side="right")
            assert inside[0] == inside[1], "a step stays in one cluster"
