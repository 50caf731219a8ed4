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


class Read(NamedTuple, Generic[Value]):
    """What a reader read from a memory for each query.

    Attributes:
        value: ``(B, V)`` the weighted sum of the values of the cells that were read; None from a memory
            without values, whose output module looks at the cells themselves.
        weight: ``(B, K)`` softmax weights; rows sum to one over the cells that the softmax ran over, which
            are these for K-MIPS and all N for the full softmax (of which these are the largest).
        cell: ``(B, K)`` int64 ids of the cells, ``-1`` where unused (weight zero).
        score: ``(B, K)`` their inner products with the query, from the live keys.
        reads: ``(B,)`` reads of the search that found them.
    """

    value: Value
    weight: Tensor
    cell: Tensor
    score: Tensor
    reads: Tensor
