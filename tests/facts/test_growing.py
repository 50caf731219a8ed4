"""Columns and rows that grow, beside plain lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hmn.facts.growing import ChangingRagged, Column
from hmn.facts.ragged import Ragged

steps = st.lists(
    st.tuples(st.sampled_from(["insert", "discard", "add"]), st.integers(0, 6), st.integers(0, 9))
)


@given(steps)
def test_rows_that_change_are_those_of_lists(steps: list[tuple[str, int, int]]) -> None:
    first = [[1, 4], [], [2]]
    ragged = Ragged.of(first)
    flat = ragged.flat.copy()
    rows, wanted = ChangingRagged(ragged), [list(row) for row in first]
    for step, row, number in steps:
        if step == "add":
            assert rows.add_row([number, number + 1]) == len(wanted)
            wanted.append([number, number + 1])
        elif step == "insert" and row < len(wanted) and number not in wanted[row]:
            rows.insert(row, number)
            wanted[row] = sorted([*wanted[row], number])
        elif step == "discard" and row < len(wanted) and number in wanted[row]:
            rows.discard(row, number)
            wanted[row].remove(number)
    assert rows.rows == len(wanted) and rows.length.tolist() == list(map(len, wanted))
    assert [rows.row(row).tolist() for row in range(len(wanted))] == wanted
    backwards = np.arange(len(wanted))[::-1]
    taken = rows.take(backwards)
    assert [taken.row(row).tolist() for row in range(len(wanted))] == wanted[::-1]
    np.testing.assert_array_equal(ragged.flat, flat), "the first rows belong to another"


@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30)), max_size=40), max_size=4))
def test_numbers_that_are_put_in_together_stand_as_those_put_in_one_by_one(
    steps: list[list[tuple[int, int]]],
) -> None:
    first = [[1, 4], [], [2], []]
    rows, wanted = ChangingRagged(Ragged.of(first)), [list(row) for row in first]
    for step in steps:
        rows.add_rows(1)
        wanted.append([])
        new = list(dict.fromkeys(pair for pair in step if pair[0] < len(wanted)))
        new = [(row, number) for row, number in new if number not in wanted[row]]
        both = np.array(new, np.int64).reshape(-1, 2)
        rows.insert_many(both[:, 0], both[:, 1])
        for row, number in new:
            wanted[row] = sorted([*wanted[row], number])
        assert [rows.row(row).tolist() for row in range(rows.rows)] == wanted


def test_a_number_goes_where_it_is_put() -> None:
    rows = ChangingRagged(Ragged.of([[5]]))
    rows.insert(0, 9, 0)
    rows.insert(0, 7, 1)
    assert rows.row(0).tolist() == [9, 7, 5]


def test_rows_take_room_in_proportion_to_what_they_hold() -> None:
    """A row that grows by one number at a time is not moved each time."""
    rows = ChangingRagged(Ragged.of([[]]))
    for number in range(1000):
        rows.insert(0, number)
    assert len(rows._flat) < 4 * 1000 and len(rows._flat._room) < 16 * 1000
    rows = ChangingRagged(Ragged.of([[], []]))
    for first in range(0, 1000, 10):
        rows.insert_many(np.zeros(10, np.int64), np.arange(first, first + 10))
    assert rows.row(0).tolist() == list(range(1000)) and len(rows._flat) < 4 * 1000


def test_a_column_leaves_its_first_numbers_alone() -> None:
    numbers = np.arange(3)
    numbers.flags.writeable = False
    column = Column(numbers)
    assert column.numbers.tolist() == [0, 1, 2] and len(column) == 3
    column[1] = 7
    column.append([8, 9])
    assert column.numbers.tolist() == [0, 7, 2, 8, 9] and numbers.tolist() == [0, 1, 2]
    assert column[4] == 9 and not column.numbers.flags.writeable
