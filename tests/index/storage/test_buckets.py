"""Rows are found under the codes that they have now, and under no others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.index.storage import buckets as module
from hmn.index.storage.buckets import LISTED_BYTES, LOOKUP_BYTES, Buckets


def found(buckets: Buckets, code: list[list[int]]) -> list[list[int]]:
    """Rows found for each line of codes, sorted."""
    lines: list[list[int]] = []
    for part in buckets.find(torch.tensor(code)):
        assert part.chosen.start == len(lines)
        lines += [sorted(row for row in line if row >= 0) for line in part.candidate.tolist()]
    assert len(lines) == len(code)
    return lines


def codes_of(row: int, shift: int) -> list[int]:
    """Two codes of a row, in tables with codes 0 to 9 and 10 to 19."""
    return [(row * 3 + shift) % 7, 10 + (row + shift) % 5]


@pytest.mark.parametrize("late", [0, 3, 1000])
@pytest.mark.parametrize("part", [1, 1 << 22])
@settings(max_examples=50, deadline=None)
@given(
    start=st.integers(0, 12),
    changes=st.lists(
        st.tuples(st.sampled_from("fds"), st.lists(st.integers(0, 20), max_size=5, unique=True)), max_size=15
    ),
)
def test_agrees_with_a_dictionary(
    late: int, part: int, start: int, changes: list[tuple[str, list[int]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LATE_AT_LEAST", late)
        patch.setattr(module, "PART_CANDIDATES", part)
        held = {row: codes_of(row, 0) for row in range(start)}
        buckets = Buckets(torch.tensor(list(held.values()), dtype=torch.int64).reshape(start, 2))
        for shift, (kind, rows) in enumerate(changes, start=1):
            chosen = torch.tensor(rows, dtype=torch.int64)
            if kind == "f":
                held.update({row: codes_of(row, shift) for row in rows})
                new: Tensor = torch.tensor([held[row] for row in rows], dtype=torch.int64)
                buckets.file(chosen, new.reshape(len(rows), 2))
            elif kind == "d":
                buckets.drop(chosen)
                held = {row: codes for row, codes in held.items() if row not in rows}
            asked = [[shift % 7, 10 + shift % 5], [(shift + 1) % 7, 8], [9, 19]]
            wanted = [
                sorted(row for row, codes in held.items() for code in codes if code in line) for line in asked
            ]
            if kind == "s":
                buckets.settle()
            assert found(buckets, asked) == wanted
        assert int(buckets.sizes().sum()) == 2 * len(held)


def test_changes_are_merged_when_they_are_many() -> None:
    buckets = Buckets(torch.arange(100_000).unsqueeze(1) % 10)
    main = buckets._main
    buckets.file(torch.arange(1024), torch.full((1024, 1), 3))
    assert found(buckets, [[11]]) == [[]]
    assert buckets._main is main and buckets._late is not None
    buckets.file(torch.arange(3000, 6000), torch.full((3000, 1), 11))
    assert len(found(buckets, [[11]])[0]) == 3000
    assert buckets._main is not main and buckets._late is None


def test_counts_the_bytes_of_lookups_and_lists() -> None:
    buckets = Buckets(torch.tensor([[0], [0], [1], [1], [1]]))
    cost = [part.bytes.tolist() for part in buckets.find(torch.tensor([[0, 1], [0, 7]]))]
    assert cost == [[2 * LOOKUP_BYTES + 5 * LISTED_BYTES, 2 * LOOKUP_BYTES + 2 * LISTED_BYTES]]
    buckets.file(torch.tensor([4]), torch.tensor([[0]]))  # now two lists, and a mask for each row listed
    cost = [part.bytes.tolist() for part in buckets.find(torch.tensor([[0, 7]]))]
    assert cost == [[4 * LOOKUP_BYTES + 3 * (LISTED_BYTES + 1)]]


def test_no_rows_and_no_queries() -> None:
    buckets = Buckets(torch.empty(0, 2, dtype=torch.int64))
    assert found(buckets, [[0, 1]]) == [[]]
    assert list(buckets.find(torch.empty(0, 2, dtype=torch.int64))) == []
    assert len(buckets.sizes()) == 0
