"""What a search and a read return, and the letters for shapes that every docstring uses.

B queries per batch, N cells in a memory, D features per key, V features per value, K results per query.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

from torch import Tensor
from typing_extensions import TypeVar

Value = TypeVar("Value", bound=Tensor | None, default=Tensor, covariant=True)
"""Type of what was read: a tensor, or perhaps None where a memory may have no values."""


class SearchResult(NamedTuple):
    """The K cells with the largest inner products that an index found for each query, best first.

    Attributes:
        score: ``(B, K)`` float32 inner products; unused places hold ``-inf``.
        cell: ``(B, K)`` int64 cell ids; unused places hold ``-1``.
        reads: ``(B,)`` float32 bytes of memory and index read for the query, counted as if it came alone,
            in units of one float32 key. Exact search reads N.
        cells_scored: ``(B,)`` int64 number of keys scored in full.
    """

    score: Tensor
    cell: Tensor
    reads: Tensor
    cells_scored: Tensor


class RangeResult(NamedTuple):
    """The cells whose inner products with each query are at least a number, query by query.

    Those of query ``b`` are ``cell[begin[b] : begin[b + 1]]``, best first.

    Attributes:
        score: ``(M,)`` float32 inner products, of all queries together.
        cell: ``(M,)`` int64 cell ids.
        begin: ``(B + 1,)`` int64 where each query begins; the last is M.
        reads: ``(B,)`` float32 reads of the searches that found them; see ``SearchResult``.
        cells_scored: ``(B,)`` int64 number of keys scored in full.
    """

    score: Tensor
    cell: Tensor
    begin: Tensor
    reads: Tensor
    cells_scored: Tensor


class Read(NamedTuple, Generic[Value]):
    """What a reader read from a memory for each query.

    Attributes:
        value: ``(B, V)`` weighted sum of the values of the cells that were read; None if the memory has no
            values, and the output module uses the cells themselves.
        weight: ``(B, K)`` softmax weights of these cells. With K-MIPS, each row sums to one. With the full
            softmax, all N weights do, and these are the largest.
        cell: ``(B, K)`` int64 cell ids; unused places hold ``-1`` and have weight zero.
        score: ``(B, K)`` inner products of the query with the current keys of these cells.
        reads: ``(B,)`` reads of the search that found the cells.
    """

    value: Value
    weight: Tensor
    cell: Tensor
    score: Tensor
    reads: Tensor
