"""Listed rows and the most frequent ones, compiled and in PyTorch, agree with plain lists and a counter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native.fallback import buckets as pytorch

ListRows = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
MostFrequent = Callable[[Tensor, int], Tensor]
quick = settings(max_examples=80, deadline=None)


@pytest.mark.parametrize("list_rows", [pytorch.list_rows, native.list_rows])
@quick
@given(
    listed=st.lists(st.integers(0, 99), min_size=1, max_size=20),
    lookups=st.integers(0, 4).flatmap(
        lambda count: st.lists(
            st.tuples(
                st.integers(0, 2),
                st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5)), min_size=count, max_size=count),
            ),
            max_size=6,
        )
    ),
)
def test_rows_of_lookups_follow_the_places_that_are_filled(
    list_rows: ListRows, listed: list[int], lookups: list[tuple[int, list[tuple[int, int]]]]
) -> None:
    lines = [[[begin % len(listed), size] for begin, size in line] for _, line in lookups]
    lines = [[[begin, min(size, len(listed) - begin)] for begin, size in line] for line in lines]
    count = len(lines[0]) if lines else 0
    places = torch.tensor(lines, dtype=torch.int64).reshape(len(lines), count, 2)
    filled = torch.tensor([before for before, _ in lookups], dtype=torch.int64)
    candidate = torch.full((len(lines), 2 + 5 * count), -1)
    list_rows(torch.tensor(listed, dtype=torch.int32), places[..., 0], places[..., 1], filled, candidate)
    for line, before, got in zip(lines, filled.tolist(), candidate.tolist(), strict=True):
        rows = [row for begin, size in line for row in listed[begin : begin + size]]
        assert got == [-1] * before + rows + [-1] * (len(got) - before - len(rows))


@pytest.mark.parametrize("most_frequent", [pytorch.most_frequent, native.most_frequent])
@quick
@given(
    rows=st.integers(0, 15).flatmap(
        lambda width: st.lists(st.lists(st.integers(-1, 6), min_size=width, max_size=width), max_size=5)
    ),
    limit=st.integers(1, 9),
)
def test_the_most_frequent_rows_stay(most_frequent: MostFrequent, rows: list[list[int]], limit: int) -> None:
    width = len(rows[0]) if rows else 0
    kept = most_frequent(torch.tensor(rows, dtype=torch.int64).reshape(len(rows), width), limit)
    assert kept.shape[0] == len(rows) and kept.dtype == torch.int64
    longest = 0
    for line, got in zip(rows, kept.tolist(), strict=True):
        counted = Counter(row for row in line if row >= 0)
        wanted = sorted(counted, key=lambda row: (-counted[row], row))[:limit]
        assert sorted(row for row in got if row >= 0) == sorted(wanted)
        longest = max(longest, len(wanted))
    assert kept.shape[1] == longest


def test_threads_do_not_change_the_result() -> None:
    candidate = torch.randint(-1, 500, (64, 900), generator=torch.Generator().manual_seed(0))
    compiled, expected = native.most_frequent(candidate, 40), pytorch.most_frequent(candidate, 40)
    assert torch.equal(compiled.sort(dim=1).values, expected.sort(dim=1).values)
