"""Inner products with the rows that queries read, weighted sums of them, and sums by row.

No row is copied: each is read where it lies. Queries, weights and sums are float32; rows may be of half
precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native.arguments import address, key_rows
from hmn._native.backend import kernels_for
from hmn._native.fallback import rows as pytorch


class ByRow(NamedTuple):
    """Reads in the order of their rows; a place is that of a read in the flattened ``(B, K)``.

    Attributes:
        row: ``(U,)`` int64 distinct rows, ascending.
        begin: ``(U + 1,)`` int64: the reads of the i-th row are ``place[begin[i]:begin[i + 1]]``.
        place: ``(P,)`` int64 places of all reads, those of a row ascending.
    """

    row: Tensor
    begin: Tensor
    place: Tensor


def row_products(query: Tensor, table: Tensor, row: Tensor) -> Tensor:
    """Inner products of each query with the rows that it reads.

    Args:
        query: ``(B, D)`` float32.
        table: ``(N, D)`` float32, float16 or bfloat16.
        row: ``(B, K)`` int64; -1 for none.

    Returns:
        ``(B, K)`` float32, 0 where no row is read.

    Raises:
        ShapeError: a row does not exist, or tensors do not fit each other.
    """
    kernels = kernels_for(table)
    if kernels is None:
        return pytorch.row_products(query, table, row)
    query, table, row = query.contiguous(), table.contiguous(), row.contiguous()
    count, features = query.shape
    product = query.new_empty(row.shape)
    kernels.row_products(
        address(query, torch.float32, (count, features), "query"),
        count,
        features,
        *key_rows(table, features, "rows"),
        address(row, torch.int64, (count, row.shape[-1]), "the rows that are read"),
        row.shape[1],
        product.data_ptr(),
        torch.get_num_threads(),
    )
    return product


def row_sums(weight: Tensor, table: Tensor, row: Tensor) -> Tensor:
    """Sums ``(B, D)`` float32 of the rows that each query reads, times their weights.

    Args:
        weight: ``(B, K)`` float32.
        table: ``(N, D)`` float32, float16 or bfloat16.
        row: ``(B, K)`` int64; -1 for none.

    Raises:
        ShapeError: a row does not exist, or tensors do not fit each other.
    """
    kernels = kernels_for(table)
    if kernels is None:
        return pytorch.row_sums(weight, table, row)
    weight, table, row = weight.contiguous(), table.contiguous(), row.contiguous()
    total = weight.new_empty(len(weight), table.shape[-1])
    kernels.row_sums(
        address(weight, torch.float32, tuple(row.shape), "weight"),
        len(weight),
        *key_rows(table, table.shape[-1], "rows"),
        table.shape[-1],
        address(row, torch.int64, (len(weight), row.shape[-1]), "the rows that are read"),
        row.shape[1],
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return total


def by_row(row: Tensor) -> ByRow:
    """Reads ``(B, K)`` in the order of their rows, without those of row -1."""
    ordered, place = row.flatten().sort(stable=True)
    unused = int(torch.searchsorted(ordered, 0))
    distinct, count = torch.unique_consecutive(ordered[unused:], return_counts=True)
    return ByRow(distinct, torch.cat([count.new_zeros(1), count.cumsum(0)]), place[unused:])


def gathered(reads: ByRow, factor: Tensor, vector: Tensor) -> Tensor:
    """For each row that is read, the sum of the vectors of the queries that read it, times their factors.

    Args:
        reads: reads by row.
        factor: ``(B, K)`` float32 factor of each read.
        vector: ``(B, D)`` float32.

    Returns:
        ``(U, D)`` float32, in the order of ``reads.row``.

    Raises:
        ShapeError: a read does not exist, or tensors do not fit each other.
    """
    kernels = kernels_for(vector)
    if kernels is None:
        return pytorch.gathered(reads.begin, reads.place, factor, vector)
    _, begin, place = (part.contiguous() for part in reads)
    factor, vector = factor.contiguous(), vector.contiguous()
    count, features = vector.shape
    total = vector.new_empty(len(begin) - 1, features)
    kernels.gathered(
        address(place, torch.int64, (len(place),), "places"),
        len(place),
        address(begin, torch.int64, (len(begin),), "the begins of rows"),
        len(total),
        address(factor, torch.float32, (count, factor.shape[-1]), "factor"),
        factor.shape[1],
        address(vector, torch.float32, (count, features), "vector"),
        count,
        features,
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return total
