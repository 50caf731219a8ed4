from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import CellError, ConfigError, ShapeError
from hmn.index.storage.key_rows import KeyRows


def key_of(rows: KeyRows, cell: int) -> Tensor:
    return rows.keys[rows.rows_of(torch.tensor([cell]))[0]].float()


def test_keys_of_the_storage_type_are_shared_others_are_copied() -> None:
    keys = torch.randn(5, 3)
    assert KeyRows(keys).keys.data_ptr() == keys.data_ptr()
    assert KeyRows(keys, storage=torch.float16).keys.dtype == torch.float16
    assert KeyRows(keys.double()).keys.dtype == torch.float32


@pytest.mark.parametrize("own_ids", [False, True])
@given(st.lists(st.tuples(st.sampled_from("arw"), st.integers(0, 12), st.booleans()), max_size=40))
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(
    own_ids: bool, changes: list[tuple[str, int, bool]]
) -> None:
    keys = torch.arange(8.0).view(4, 2)
    cells = torch.tensor([7, 0, 12, 3]) if own_ids else torch.arange(4)
    given_keys = keys.clone()
    rows, expected = KeyRows(given_keys, cells), dict(zip(cells.tolist(), keys.tolist(), strict=True))
    for number, (kind, cell, undone) in enumerate(changes):
        one, key, count = torch.tensor([cell]), torch.full((1, 2), float(number + 100)), len(expected)
        if (kind == "a") == (cell in expected):
            with pytest.raises(CellError):
                rows.add(one, key) if kind == "a" else rows.remove(one)
            continue
        _ = rows.remove(one) if kind == "r" else rows.add(one, key) if kind == "a" else rows.write(one, key)
        if undone:
            assert rows.whole == count  # also before the change is taken back
            rows.undo()
            rows.undo()
            continue
        rows.commit()
        if kind == "r":
            del expected[cell]
        else:
            expected[cell] = key[0].tolist()
    assert torch.equal(given_keys, keys)
    again = KeyRows.from_state(rows.state_dict())
    for each in (rows, again):
        assert len(each) == len(expected)
        assert sorted(each.cells_at(each.live()).tolist()) == sorted(expected)
        assert {cell: key_of(each, cell).tolist() for cell in expected} == expected
    assert rows.used <= 4 + sum(kind == "a" for kind, *_ in changes)


def test_shared_keys_are_copied_by_the_first_write_that_changes_one() -> None:
    keys = torch.eye(4)
    rows = KeyRows(keys)
    keys[1] = 5.0
    rows.write(torch.tensor([1, 2]), keys[1:3])  # as they are already
    rows.commit()
    assert rows.keys.data_ptr() == keys.data_ptr()
    rows.write(torch.tensor([1]), torch.full((1, 4), 7.0))
    rows.undo()
    assert rows.keys.data_ptr() == keys.data_ptr()
    rows.write(torch.tensor([1]), torch.full((1, 4), 7.0))
    rows.commit()
    own = rows.keys.data_ptr()
    rows.write(torch.tensor([2]), torch.full((1, 4), 8.0))
    rows.commit()
    assert own == rows.keys.data_ptr() != keys.data_ptr()
    assert keys.tolist() == [[1, 0, 0, 0], [5, 5, 5, 5], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert rows.keys.tolist() == [[1, 0, 0, 0], [7, 7, 7, 7], [8, 8, 8, 8], [0, 0, 0, 1]]


def test_the_row_of_a_removed_cell_is_used_again_and_other_cells_keep_theirs() -> None:
    rows = KeyRows(torch.eye(4))
    kept = rows.rows_of(torch.tensor([0, 1, 3]))
    gone = rows.remove(torch.tensor([2]))
    rows.commit()
    assert rows.add(torch.tensor([99]), torch.ones(1, 4)).tolist() == gone.tolist()
    assert rows.rows_of(torch.tensor([0, 1, 3])).tolist() == kept.tolist()
    assert rows.cells_at(torch.tensor([[2, -1]])).tolist() == [[99, -1]]


def test_cells_in_order_need_no_table_also_after_more_are_added() -> None:
    rows = KeyRows(torch.eye(3))
    rows.add(torch.tensor([3, 4]), torch.zeros(2, 3))
    rows.commit()
    assert set(rows.state_dict()) == {"rows.used", "rows.checksum", "rows.keys"}


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        ([0, 0, 1], CellError),
        ([0, -1, 1], CellError),
        ([0, 1], ShapeError),
        ([0.0, 1.0, 2.0], ShapeError),
        ([[0], [1], [2]], ShapeError),
    ],
)
def test_bad_ids_are_refused(cells: list[object], error: type[Exception]) -> None:
    with pytest.raises(error):
        KeyRows(torch.eye(3), torch.tensor(cells))


def test_nothing_changes_when_a_change_is_refused() -> None:
    rows = KeyRows(torch.eye(3))
    before = {name: value.clone() for name, value in rows.state_dict().items()}
    for refused in (
        lambda: rows.add(torch.tensor([5, 5]), torch.ones(2, 3)),
        lambda: rows.add(torch.tensor([5, 1]), torch.ones(2, 3)),
        lambda: rows.add(torch.tensor([-4]), torch.ones(1, 3)),
        lambda: rows.add(torch.tensor([5]), torch.ones(1, 2)),
        lambda: rows.write(torch.tensor([1, 7]), torch.ones(2, 3)),
        lambda: rows.write(torch.tensor([1]), torch.full((1, 3), torch.nan)),
        lambda: rows.remove(torch.tensor([1, 1])),
        lambda: rows.remove(torch.tensor([1, 3])),
    ):
        with pytest.raises((CellError, ShapeError, ValueError)):
            refused()
    after = rows.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_more_rows_than_32_bits_number_are_refused() -> None:
    with pytest.raises(ShapeError, match="2147483648 keys, expected at most 2147483647"):
        KeyRows(torch.zeros(1, 1).expand(2**31, 1))


def test_another_storage_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32"):
        KeyRows(torch.eye(3), storage=torch.int8)


def test_a_state_without_keys_needs_them() -> None:
    state = KeyRows(torch.eye(3), torch.tensor([4, 5, 6])).state_dict(with_keys=False)
    with pytest.raises(ShapeError, match="saved without keys, and none are given"):
        KeyRows.from_state(state)
    with pytest.raises(ShapeError, match=r"no rows\.used, expected the state of an index"):
        KeyRows.from_state({}, torch.eye(3))
    with pytest.raises(ShapeError, match="3"):
        KeyRows.from_state(state, torch.eye(2))
    with pytest.raises(ShapeError, match="checksum"):
        KeyRows.from_state(state, -torch.eye(3))
    assert KeyRows.from_state(state, torch.eye(3)).rows_of(torch.tensor([6])).tolist() == [2]
