"""Tables of which some rows are saved, and keys whose equal rows are saved once, come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ShapeError
from hmn.store.rows import halved, packed_blocks, packed_rows, unpacked_blocks, unpacked_rows, zero_rows

WIDTHS = {"names": 3, "relations": 2}
"""Blocks of the keys."""


def counted(rows: Tensor) -> Tensor:
    """Rows that say which they are."""
    return rows.float().unsqueeze(1) * torch.tensor([1.0, 10.0, 100.0])


def changed(count: int, rows: list[int]) -> Tensor:
    """A table of usual rows but for some."""
    table = counted(torch.arange(count))
    table[rows] += torch.linspace(0.1, 0.9, 3)
    return table


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_table_comes_back_bit_for_bit(count: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    table = changed(count, rows)
    saved = packed_rows("t", table, counted)
    like = torch.empty(count, 3, device="meta")
    assert torch.equal(unpacked_rows(saved, "t", like, counted), table)
    if "t|rows" in saved:
        assert saved["t|rows"].tolist() == sorted(rows)
        assert saved["t|values"].tolist() == table[sorted(rows)].tolist()
    assert sum(value.nbytes for value in saved.values()) <= min(table.nbytes, 16 * len(rows)) or not rows


def test_counts_of_one_number_per_row_are_kept_where_they_are_not_zero() -> None:
    counts = torch.zeros(50_000)  # more rows than are compared at a time
    counts[[3, 49_999]] = torch.tensor([7.0, 1.0])
    saved = packed_rows("c", counts, zero_rows(counts))
    assert {name: value.tolist() for name, value in saved.items()} == {
        "c|rows": [3, 49_999],
        "c|values": [7.0, 1.0],
    }
    assert torch.equal(unpacked_rows(saved, "c", counts, zero_rows(counts)), counts)


@pytest.mark.parametrize("rows", [[1, 4], list(range(9))])
def test_half_precision_rounds_once_and_then_stays(rows: list[int]) -> None:
    table = changed(9, rows)
    saved = packed_rows("t", table, counted, half=True)
    once = unpacked_rows(saved, "t", table, counted)
    rounded = torch.from_numpy(table.numpy().astype(np.float16).astype(np.float32))
    others = [row for row in range(9) if row not in rows]
    assert torch.equal(once[rows], rounded[rows]) and torch.equal(once[others], table[others])
    assert all(torch.equal(saved[n], v) for n, v in packed_rows("t", once, counted, half=True).items())


def test_numbers_that_half_precision_cannot_hold_are_kept_as_they_are() -> None:
    for numbers in (torch.tensor([1.0, 70_000.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)):
        assert halved(numbers) is numbers
    assert halved(torch.tensor([1.0, 60_000.0])).dtype == torch.float16


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_keys_come_back_and_equal_blocks_are_saved_once(parts: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    names, relations = torch.randn(4, 3, generator=generator), torch.randn(3, 2, generator=generator)
    keys = (
        torch.stack([torch.cat([names[n], relations[r]]) for n, r in parts]) if parts else torch.empty(0, 5)
    )
    saved = packed_blocks(keys, WIDTHS)
    assert torch.equal(unpacked_blocks(saved, WIDTHS, len(parts), torch.float32), keys)
    for place, name in enumerate(WIDTHS):
        assert len(saved[name + "|rows"]) == len({part[place] for part in parts})
    half = unpacked_blocks(packed_blocks(keys, WIDTHS, half=True), WIDTHS, len(parts), torch.float32)
    assert torch.equal(half, keys.half().float())
    assert packed_blocks(half, WIDTHS)["names|rows"].dtype == torch.float16, "which rounds nothing"
    assert torch.equal(unpacked_blocks(packed_blocks(half, WIDTHS), WIDTHS, len(parts), torch.float32), half)


ROWS = {"t|rows": torch.tensor([1, 4], dtype=torch.int32), "t|values": torch.ones(2, 3)}
"""Tensors that are saved of a table."""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"t|rows": torch.tensor([1, 9])}, r"t\|rows holds 1 to 9, expected row numbers from 0 to 8"),
        ({"t|rows": torch.tensor([-1, 4])}, r"t\|rows holds -1 to 4"),
        ({"t|rows": torch.tensor([4, 4])}, r"t\|rows is not ascending"),
        ({"t|rows": torch.tensor([[1, 4]])}, r"t\|rows is \(1, 2\) of torch.int64, expected \(n,\)"),
        ({"t|rows": torch.tensor([1.0, 4.0])}, r"t\|rows is \(2,\) of torch.float32"),
        ({"t|values": torch.ones(3, 3)}, r"t\|values is \(3, 3\) of torch.float32, expected \(2, 3\)"),
        ({"t|values": torch.ones(2, 3, dtype=torch.int64)}, r"t\|values is .* expected .* floating-point"),
        ({"t": torch.ones(2, 3)}, r"t is \(2, 3\) of torch.float32, expected \(9, 3\)"),
    ],
)
def test_rows_that_do_not_fit_their_table_are_refused(damage: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        unpacked_rows({**ROWS, **damage}, "t", torch.empty(9, 3), counted)


@pytest.mark.parametrize("name", ["t|rows", "t|values"])
def test_a_missing_part_is_named(name: str) -> None:
    with pytest.raises(ShapeError, match=name.replace("|", r"\|") + " is missing"):
        unpacked_rows(
            {key: value for key, value in ROWS.items() if key != name}, "t", torch.empty(9, 3), counted
        )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"names|row_of": torch.tensor([0, 2])}, r"names\|row_of holds 0 to 2, expected row numbers from 0"),
        ({"names|row_of": torch.tensor([0])}, r"names\|row_of has 1 numbers, expected one per key: 2"),
        ({"names|rows": torch.ones(2, 4)}, r"names\|rows is \(2, 4\) of torch.float32, expected \(-1, 3\)"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(damage: dict[str, Tensor], message: str) -> None:
    saved = packed_blocks(torch.arange(10.0).view(2, 5), WIDTHS)
    with pytest.raises(ShapeError, match=message):
        unpacked_blocks({**saved, **damage}, WIDTHS, 2, torch.float32)
