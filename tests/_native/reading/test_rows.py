"""Rows that queries read, compiled and in PyTorch, agree with plain loops in float64."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from hmn._native import reading
from hmn._native.backend import kernels_for
from hmn._native.fallback import rows as pytorch
from hmn.errors import ShapeError

pytestmark = pytest.mark.usefixtures("instructions")

SHAPES = [(0, 3, 5, 4), (3, 0, 5, 4), (1, 1, 1, 1), (7, 5, 20, 33), (40, 9, 300, 128), (5, 70, 30, 15)]
"""Queries, reads per query, rows, features."""
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def made(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, rows of a table, rows that are read (some none, some twice), weights."""
    queries, reads, rows, features = shape
    generator = torch.Generator().manual_seed(sum(shape))
    row = torch.randint(-1, rows, (queries, reads), generator=generator)
    query, weight = (torch.randn(queries, width, generator=generator) for width in (features, reads))
    return query, torch.randn(rows, features, generator=generator).to(dtype), row, weight


def assert_near(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("module", [reading, pytorch], ids=["chosen", "PyTorch"])
def test_products_and_sums(module: ModuleType, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    query, table, row, weight = made(shape, dtype)
    product, total = torch.zeros(row.shape).double(), torch.zeros(query.shape).double()
    for number, line in enumerate(row.tolist()):
        for place, each in enumerate(line):
            if each >= 0:
                product[number, place] = query[number].double() @ table[each].double()
                total[number] += weight[number, place].double() * table[each].double()
    assert_near(module.row_products(query, table, row), product)
    assert_near(module.row_sums(weight, table, row), total)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_by_row(shape: tuple[int, int, int, int]) -> None:
    query, table, row, weight = made(shape, torch.float32)
    total = torch.zeros(table.shape).double()
    for number, line in enumerate(row.tolist()):
        for place, each in enumerate(line):
            if each >= 0:
                total[each] += weight[number, place].double() * query[number].double()
    reads = reading.by_row(row)
    assert reads.row.tolist() == sorted(set(row[row >= 0].tolist()))
    assert_near(reading.gathered(reads, weight, query), total[reads.row])
    assert_near(pytorch.gathered(reads.begin, reads.place, weight, query), total[reads.row])


def test_tensors_may_be_parts_of_others() -> None:
    query, table, row, weight = made((7, 5, 20, 33), torch.float32)
    strided = [part.T.contiguous().T for part in (query, table, row, weight)]
    assert torch.equal(reading.row_products(*strided[:3]), reading.row_products(query, table, row))
    assert torch.equal(
        reading.row_sums(strided[3], strided[1], strided[2]), reading.row_sums(weight, table, row)
    )


def test_threads_change_nothing() -> None:
    query, table, row, weight = made((40, 9, 300, 128), torch.float32)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        reads = reading.by_row(row)
        results.append(
            torch.cat([reading.row_sums(weight, table, row), reading.gathered(reads, weight, query)])
        )
    assert torch.equal(*results)


def test_what_does_not_exist_or_fit_is_refused() -> None:
    query, table, row, weight = made((7, 5, 20, 33), torch.float32)
    if kernels_for(query) is None:
        pytest.skip("PyTorch refuses these by errors of its own")
    with pytest.raises(ShapeError, match="a row that is read"):
        reading.row_products(query, table, row + 20)
    with pytest.raises(ShapeError, match="a row that is read"):
        reading.row_sums(weight, table, row + 20)
    with pytest.raises(ShapeError, match="query is"):
        reading.row_products(query.double(), table, row)
    with pytest.raises(ShapeError, match="rows are"):
        reading.row_products(query, table[:, :5], row)
    with pytest.raises(ShapeError, match="weight is"):
        reading.row_sums(weight[:, :2], table, row)
    reads = reading.by_row(row)
    with pytest.raises(ShapeError, match="a read"):
        reading.gathered(reads._replace(place=reads.place + 35), weight, query)
    for begin in (reads.begin + 1, reads.begin.flip(0)):
        with pytest.raises(ShapeError, match="of a row's reads"):
            reading.gathered(reads._replace(begin=begin), weight, query)
