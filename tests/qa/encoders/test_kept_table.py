"""A table that is restored late gives what it would give at once, whatever is done with it first."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from hmn.qa.encoders.first_values import FirstValues
from hmn.qa.encoders.kept_table import SHARE, KeptTable, restore_tables, some_rows
from hmn.qa.encoders.tables import bag
from hmn.store.rows import KeptRows

ROWS = 64
SAVED = [0, 3, 4, 40, 63]


def kept(saved: list[int] = SAVED, dtype: torch.dtype = torch.float32) -> KeptRows:
    """A table of which some rows were kept, in half precision."""
    values = torch.randn(len(saved), 5, generator=torch.Generator().manual_seed(3)).half()
    seed = torch.tensor(11)
    first = FirstValues("names", 5, 0.25)
    rows = torch.tensor(saved, dtype=torch.int64)
    return KeptRows(torch.Size([ROWS, 5]), dtype, rows, values, lambda rows: first.of(seed, rows))


def is_restored(table: Tensor) -> bool:
    return type(table) is nn.Parameter


@pytest.mark.parametrize("saved", [SAVED, [], list(range(ROWS))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_some_rows_are_those_of_the_whole_table(saved: list[int], dtype: torch.dtype) -> None:
    rows = kept(saved, dtype)
    whole, asked = rows.whole(), torch.tensor([63, 0, 5, 5, 4, 62])
    assert whole.dtype == dtype and whole[saved].tolist() == rows.values.tolist()
    assert torch.equal(rows.take(asked), whole[asked])
    assert torch.equal(rows.take(asked[:0]), whole[:0])


def test_looking_up_rows_restores_no_others_and_sums_the_same_numbers() -> None:
    table, whole = KeptTable(kept()), kept().whole()
    assert (table.shape, table.dtype, len(table)) == (whole.shape, whole.dtype, ROWS)
    feature, start = torch.tensor([9, 3, 9, 63, 1]), torch.tensor([0, 2])
    scale = torch.rand(5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(bag(feature, start, table, scale=scale), bag(feature, start, whole, scale=scale))
    assert not is_restored(table)


def test_once_many_rows_were_looked_up_the_whole_table_is_restored() -> None:
    table, many = KeptTable(kept()), torch.arange(int(SHARE * ROWS))
    with torch.no_grad():
        few, number = some_rows(table, many)
        assert torch.equal(few[number], kept().whole()[many]) and not is_restored(table)
        again, row = some_rows(table, many)
        assert again is table and row is many
        assert torch.equal(bag(many, many, table), kept().whole()[many])
    assert is_restored(table)


USES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda table: table + 0,
    "in a list": lambda table: torch.cat([table, table])[ROWS:],
    "by keyword": lambda table: torch.add(input=table, other=0),
    "one row": lambda table: torch.stack([table[row] for row in range(ROWS)]),
    "detached": lambda table: table.detach(),
    "data": lambda table: table.data,
    "clone": lambda table: table.clone(),
    "numpy": lambda table: torch.from_numpy(table.detach().numpy()),
    "list": lambda table: torch.tensor(table.tolist()),
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "with gradients": lambda table: bag(torch.arange(ROWS), torch.arange(ROWS), table, sparse=False),
    "another type": lambda table: table.to(torch.float64).float(),
    "copied into": lambda table: torch.empty(ROWS, 5).copy_(table),
    "filled in place": lambda table: table.data.mul_(1.0),
}


@pytest.mark.parametrize("use", USES)
def test_whatever_is_done_with_its_numbers_restores_it_first(use: str) -> None:
    table = KeptTable(kept())
    assert torch.equal(USES[use](table), kept().whole())
    assert is_restored(table) and table.requires_grad and table.is_leaf


def module() -> nn.Module:
    network = nn.Module()
    network.register_parameter("table", KeptTable(kept()))
    return network


def test_a_module_with_such_a_table_is_saved_copied_and_converted_as_any_other() -> None:
    whole = kept().whole()
    assert torch.equal(module().state_dict()["table"], whole)
    assert torch.equal(copy.deepcopy(module()).state_dict()["table"], whole)
    assert torch.equal(module().double().state_dict()["table"], whole.double())
    saved = io.BytesIO()
    torch.save(module().state_dict(), saved)
    saved.seek(0)
    assert torch.equal(torch.load(saved, weights_only=True)["table"], whole)
    network = module()
    network.load_state_dict({"table": whole * 2})
    assert torch.equal(network.state_dict()["table"], whole * 2)
    network = module()
    restore_tables(network)
    assert all(map(is_restored, network.parameters()))


def test_an_optimiser_that_took_the_table_before_changes_it_afterwards() -> None:
    network, whole = module(), kept().whole()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    with torch.inference_mode():
        assert float(network.table.sum()) == float(whole.sum())  # type: ignore[operator]
    network.table.sum().backward()  # type: ignore[operator]
    optimiser.step()
    assert torch.equal(network.state_dict()["table"], whole - 0.5)


def test_threads_that_need_it_at_the_same_time_get_the_same_table() -> None:
    whole = kept().whole()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            table = KeptTable(kept())
            assert all(torch.equal(found, whole) for found in pool.map(Tensor.clone, [table] * 16))
