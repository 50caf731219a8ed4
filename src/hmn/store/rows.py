"""Tables as they are saved: the rows that are not what they would be anyway, and equal rows once.

A table ``name`` of which some rows are kept is saved as two tensors: ``name|rows`` has their numbers,
ascending, and ``name|values`` has the rows. A table of which most rows are kept is saved as it is.

Keys are saved in blocks of columns: ``name|rows`` has the distinct rows of a block, and ``name|row_of`` which
of them each key has there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmn.errors import ShapeError
from hmn.index.storage.fingerprint import row_fingerprints

ROWS_AT_A_TIME = 1 << 14
"""Number of rows that are compared at a time, to bound the memory it takes."""
ROWS_IN_CACHE = 1 << 11
"""Number of rows of a usual table that a processor's cache holds."""
NUMBERS = "|rows"
"""Ending of the names of row numbers, and of distinct rows."""
VALUES = "|values"
"""Ending of the names of rows that are kept."""
ROW_OF = "|row_of"
"""Ending of the names of tensors that say which distinct row each key has."""

Usual = Callable[[Tensor], Tensor]
"""Gives the rows, by their numbers ``(n,)``, that a table has where nothing has changed it."""


def halved(values: Tensor) -> Tensor:
    """Numbers in half precision; as they are if they are not in single precision, or too large for half."""
    if values.dtype != torch.float32:
        return values
    half = values.half()
    return half if not half.numel() or bool(torch.stack(half.aminmax()).isfinite().all()) else values


def zero_rows(table: Tensor) -> Usual:
    """Rows of zeros, of the shape and type of a table's."""
    return lambda rows: torch.zeros(len(rows), *table.shape[1:], dtype=table.dtype, device="cpu")


def packed_rows(name: str, table: Tensor, usual: Usual, *, half: bool = False) -> dict[str, Tensor]:
    """A table ``(rows, ...)`` as tensors to save.

    Args:
        name: name of the table.
        table: the table.
        usual: the rows that need not be kept.
        half: keep the rows in half precision.
    """
    table = table.detach().cpu()
    parts = []
    for first in range(0, len(table), ROWS_AT_A_TIME):
        rows = torch.arange(first, min(first + ROWS_AT_A_TIME, len(table)))
        differs = table[rows] != usual(rows).to(table.dtype)
        parts.append(rows[differs.flatten(1).any(1) if table.dim() > 1 else differs])
    kept = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
    values = halved(table[kept]) if half else table[kept]
    if values.nbytes + 4 * len(kept) >= table.numel() * values.element_size():
        return {name: halved(table) if half else table}
    return {name + NUMBERS: kept.int(), name + VALUES: values}


class KeptRows(NamedTuple):
    """A table of which some rows were kept.

    Attributes:
        shape, dtype: shape and type of the table.
        rows: ``(n,)`` int64 numbers of the rows that were kept, ascending.
        values: these rows, perhaps in half precision.
        usual: the other rows.
    """

    shape: torch.Size
    dtype: torch.dtype
    rows: Tensor
    values: Tensor
    usual: Usual

    def whole(self) -> Tensor:
        """The table."""
        table = torch.empty(self.shape, dtype=self.dtype, device="cpu")
        # few rows at a time, so that those that were converted are still in the cache when they are put
        for first in range(0, len(self.rows), ROWS_IN_CACHE):
            kept = slice(first, first + ROWS_IN_CACHE)
            table[self.rows[kept]] = self.values[kept].to(self.dtype)
        others = torch.ones(self.shape[0], dtype=torch.bool)
        others[self.rows] = False
        for part in torch.split(others.nonzero().squeeze(1), ROWS_AT_A_TIME):
            table[part] = self.usual(part).to(self.dtype)
        return table

    def take(self, rows: Tensor) -> Tensor:
        """Some rows, by their numbers ``(n,)``."""
        if not len(self.rows):
            return self.usual(rows).to(self.dtype)
        place = torch.searchsorted(self.rows, rows).clamp(max=len(self.rows) - 1)
        found = self.values.index_select(0, place).to(self.dtype)
        others = (self.rows[place] != rows).nonzero().squeeze(1)
        found[others] = self.usual(rows[others]).to(self.dtype)
        return found


def kept_rows(saved: Mapping[str, Tensor], name: str, like: Tensor, usual: Usual) -> KeptRows | Tensor:
    """What ``packed_rows`` saved of a table: the rows that were kept, or the whole table.

    Args:
        saved: tensors by name.
        name: name of the table.
        like: a tensor of its shape and type, perhaps without storage.
        usual: the rows that were not kept.

    Raises:
        ShapeError: a tensor is missing, or does not fit.
    """
    if name in saved:
        whole = _floats(saved, name, like.shape)
        return whole.to(like.dtype) if whole.dtype == torch.float16 else whole
    rows = row_numbers(saved, name + NUMBERS, len(like))
    if bool((rows.diff() <= 0).any()):
        raise ShapeError(f"{name + NUMBERS} is not ascending, expected the number of each row once")
    values = _floats(saved, name + VALUES, (len(rows), *like.shape[1:]))
    return KeptRows(like.shape, like.dtype, rows, values, usual)


def unpacked_rows(saved: Mapping[str, Tensor], name: str, like: Tensor, usual: Usual) -> Tensor:
    """The table that ``packed_rows`` saved; see ``kept_rows`` for the arguments and errors."""
    found = kept_rows(saved, name, like, usual)
    return found.whole() if isinstance(found, KeptRows) else found


def packed_blocks(keys: Tensor, widths: Mapping[str, int], *, half: bool = False) -> dict[str, Tensor]:
    """Keys ``(N, D)`` as tensors to save: of each block of columns the distinct rows.

    Args:
        keys: the keys.
        widths: number of columns of each block, by its name, from left to right.
        half: keep them in half precision, even if that rounds them.
    """
    packed: dict[str, Tensor] = {}
    blocks = torch.split(keys.detach().cpu(), list(widths.values()), dim=1)
    for name, block in zip(widths, blocks, strict=True):
        small = halved(block)
        exact = small.dtype != block.dtype and torch.equal(small.to(block.dtype), block)
        rows, row_of = _distinct((small if half or exact else block).contiguous())
        packed |= {name + NUMBERS: rows, name + ROW_OF: row_of.int()}
    return packed


def unpacked_blocks(
    saved: Mapping[str, Tensor],
    widths: Mapping[str, int],
    count: int,
    dtype: torch.dtype,
    part: slice = slice(None),
) -> Tensor:
    """The keys ``(count, D)`` that ``packed_blocks`` saved, or a part of them.

    Raises:
        ShapeError: a tensor is missing, or does not fit.
    """
    wanted = len(range(count)[part])
    keys = torch.empty(wanted, sum(widths.values()), dtype=dtype)
    for (name, width), block in zip(
        widths.items(), torch.split(keys, list(widths.values()), dim=1), strict=True
    ):
        rows = _floats(saved, name + NUMBERS, (-1, width))
        row_of = row_numbers(saved, name + ROW_OF, len(rows))
        if len(row_of) != count:
            raise ShapeError(f"{name + ROW_OF} has {len(row_of)} numbers, expected one per key: {count}")
        row_of = row_of[part]
        for first in range(0, wanted, ROWS_IN_CACHE):
            few = slice(first, first + ROWS_IN_CACHE)
            block[few] = rows.index_select(0, row_of[few])
    return keys


def _distinct(block: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of a block, in the order of their first key, and which of them each key has."""
    count = torch.arange(len(block))
    found, group = torch.unique(row_fingerprints(block), return_inverse=True)  # (N,)
    first = torch.full((len(found),), len(block)).scatter_reduce(0, group, count, "amin")
    order = first.argsort()
    rows, row_of = block[first[order]], order.argsort()[group]
    # different rows of one fingerprint are all but impossible
    return (rows, row_of) if torch.equal(rows[row_of], block) else (block, count)


def row_numbers(saved: Mapping[str, Tensor], name: str, limit: int) -> Tensor:
    """The tensor ``name`` as row numbers ``(n,)`` of int64, from 0 to ``limit - 1``.

    Raises:
        ShapeError: it is missing, or holds anything else.
    """
    numbers = _tensor(saved, name)
    if numbers.dim() != 1 or numbers.dtype not in (torch.int32, torch.int64):
        raise ShapeError(f"{name} is {_described(numbers)}, expected (n,) whole numbers")
    numbers = numbers.long()
    if len(numbers) and not 0 <= int(numbers.amin()) <= int(numbers.amax()) < limit:
        got = f"{int(numbers.amin())} to {int(numbers.amax())}"
        raise ShapeError(f"{name} holds {got}, expected row numbers from 0 to {limit - 1}")
    return numbers


def _floats(saved: Mapping[str, Tensor], name: str, shape: Sequence[int]) -> Tensor:
    """Floating-point numbers of a shape, in which -1 stands for any length."""
    values = _tensor(saved, name)
    fits = values.dim() == len(shape) and all(
        wanted in (-1, got) for got, wanted in zip(values.shape, shape, strict=True)
    )
    if not fits or not values.is_floating_point() or values.dtype.itemsize == 1:
        raise ShapeError(f"{name} is {_described(values)}, expected {tuple(shape)} floating-point numbers")
    return values


def _tensor(saved: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in saved:
        raise ShapeError(f"{name} is missing")
    return saved[name]


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
