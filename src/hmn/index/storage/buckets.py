"""Buckets of rows, by whole numbers: the hash tables of ``wta_hash`` and the leaves of ``pca_tree``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hmn._native import best_of, list_rows
from hmn.index.storage.key_rows import KeyRows
from hmn.results import SearchResult

LATE_AT_LEAST = 1024
"""Number of changed rows up to which they stay in a list of their own, however few rows there are."""
LATE_SHARE = 32
"""Divisor of the number of rows; more changed rows than the quotient are merged into the main list."""
PART_CANDIDATES = 1 << 22
"""Candidates that are held at a time, to bound the memory they need."""
LOOKUP_BYTES = 8 + 16
"""Bytes read to look up a code: the code itself, and where its rows begin and end."""
LISTED_BYTES = 4
"""Bytes of a row number in a list."""


class Found(NamedTuple):
    """Candidates of a part of a batch.

    Attributes:
        chosen: the part of the batch, b of the B queries.
        candidate: ``(b, C)`` int64 rows; ``-1`` for none. A row found under several codes appears once per
            code.
        bytes: ``(b,)`` float32, bytes of codes and lists that were looked at.
    """

    chosen: slice
    candidate: Tensor
    bytes: Tensor


class _Sorted(NamedTuple):
    """Rows by code: those of ``code[i]`` are ``row[start[i] : start[i + 1]]``."""

    code: Tensor  # (U,) int64, ascending
    start: Tensor  # (U + 1,) int64
    row: Tensor  # (M,) int32


class Buckets:
    """Finds the rows that are filed under a code; a row may be filed under T codes.

    The main list holds all rows, sorted by code. Rows that change later are masked there and go into a
    second, small list. Once that holds more than 1/32 of the rows, and more than 1,024, the two are merged.
    So the cost of a change depends only on the rows it touches, apart from an occasional sort of all rows.

    Args:
        code: ``(rows, T)`` int64 of the rows from 0 on, not negative; ``-1`` throughout for a row that is not
            filed. Taken, not copied.
    """

    def __init__(self, code: Tensor) -> None:
        self._code = code
        self._used = len(code)
        self._changed = torch.zeros(len(code), dtype=torch.bool, device=code.device)
        self._touched: list[Tensor] = []
        self._late: _Sorted | None = None
        self._main = self._sorted(torch.arange(len(code), device=code.device))

    @property
    def code(self) -> Tensor:
        """Codes ``(rows, T)`` of all rows; ``-1`` for those that are not filed."""
        return self._code[: self._used]

    def file(self, rows: Tensor, code: Tensor) -> None:
        """File rows ``(n,)`` under codes ``(n, T)`` in place of those that they had."""
        if not len(rows):
            return
        self._reach(int(rows.max()) + 1)
        self._code[rows] = code
        self._changed[rows] = True
        self._touched.append(rows)
        self._late = None

    def drop(self, rows: Tensor) -> None:
        """Take rows ``(n,)`` out of all buckets."""
        self.file(rows, self._code.new_full((len(rows), self._code.shape[1]), -1))

    def is_listed(self) -> bool:
        """Whether all changed rows are in a list, as ``find`` needs them."""
        return not self._touched or self._late is not None

    def list_late(self) -> None:
        """List the rows that changed since the last merge, or merge again if there are many."""
        touched = torch.unique(torch.cat(self._touched))
        self._touched = [touched]
        if len(touched) > max(LATE_AT_LEAST, self._used // LATE_SHARE):
            self.settle()
        else:
            self._late = self._sorted(touched)

    def settle(self) -> None:
        """Merge the changed rows into the main list."""
        if self._touched:
            self._touched = []
            self._late = None
            self._changed.zero_()
            self._main = self._sorted(torch.arange(self._used, device=self._code.device))

    def find(self, code: Tensor) -> Iterator[Found]:
        """Rows filed under any of the codes ``(B, L)``, in parts of bounded memory.

        The codes of a query must be distinct. Threads may call this at the same time if ``is_listed``.
        """
        # 1. Look up where the rows of each code begin, in the main list and in that of changed rows.
        # 2. For each part of the batch, copy these rows into one line per query.
        # 3. Mask rows of the main list that have changed since the merge.
        if not self.is_listed():
            self.list_late()
        lists = [self._main] if self._late is None else [self._main, self._late]
        runs = [_runs(rows, code) for rows in lists]  # begin (B, L) and size (B, L), in each list
        total = sum((size.sum(dim=1) for _, size in runs), torch.zeros_like(code[:, 0]))  # (B,)
        cost = (LOOKUP_BYTES * len(lists) * code.shape[1] + total * (LISTED_BYTES + len(lists) - 1)).float()
        widest = int(total.max()) if len(total) else 0
        queries = max(1, PART_CANDIDATES // max(1, widest))
        for start in range(0, len(code), queries):
            chosen = slice(start, min(start + queries, len(code)))
            width = int(total[chosen].max())
            candidate = code.new_full((chosen.stop - start, width), -1)  # (b, C)
            filled = torch.zeros_like(total[chosen])  # (b,)
            for rows, (begin, size) in zip(lists, runs, strict=True):
                list_rows(rows.row, begin[chosen], size[chosen], filled, candidate)
                if rows is self._main and self._late is not None:
                    stale = self._changed[candidate.clamp(min=0)]
                    candidate.masked_fill_(stale, -1)
                filled = filled + size[chosen].sum(dim=1)
            yield Found(chosen, candidate, cost[chosen])

    def sizes(self) -> Tensor:
        """Number of rows under each code in use, in the order of the codes."""
        self.settle()
        return self._main.start.diff()

    def _reach(self, count: int) -> None:
        """Make room for ``count`` rows."""
        if count > len(self._code):
            more = max(count, len(self._code) + len(self._code) // 2 + 16) - len(self._code)
            self._code = torch.cat([self._code, self._code.new_full((more, self._code.shape[1]), -1)])
            self._changed = torch.cat([self._changed, self._changed.new_zeros(more)])
        self._used = max(self._used, count)

    def _sorted(self, rows: Tensor) -> _Sorted:
        """Rows ``(n,)`` by code, without those that are not filed."""
        rows = rows[self._code[rows, 0] >= 0] if self._code.shape[1] else rows
        code, order = self._code[rows].flatten().sort(stable=True)  # (M,)
        row = rows.repeat_interleave(self._code.shape[1])[order].to(torch.int32)
        distinct, count = torch.unique_consecutive(code, return_counts=True)
        start = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        return _Sorted(distinct, start, row)


def search_buckets(
    query: Tensor,
    rows: KeyRows,
    k: int,
    found: Iterator[Found],
    narrow: Callable[[Tensor], Tensor],
    more_bytes: float,
) -> SearchResult:
    """Score candidates and keep the best; the result holds rows in place of cells.

    Args:
        query: ``(B, D)`` float32 on the device of the keys.
        rows: the keys.
        k: results per query.
        found: the candidates of all queries.
        narrow: reduces the candidates of each query to those that are scored, each once.
        more_bytes: bytes read per query besides those of ``found`` and the keys scored.
    """
    score = query.new_full((len(query), k), -torch.inf)
    row = torch.full((len(query), k), -1, dtype=torch.int64, device=query.device)
    reads = query.new_zeros(len(query))
    scored = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    for chosen, every, cost in found:
        candidate = narrow(every)  # (b, C)
        score[chosen], row[chosen] = best_of(query[chosen], rows.keys, candidate, k)  # (b, k)
        scored[chosen] = (candidate >= 0).sum(dim=1)
        reads[chosen] = cost
    reads += more_bytes + scored.float() * (rows.features * rows.keys.element_size())
    return SearchResult(score, row, reads / (4 * max(1, rows.features)), scored)


def _runs(listed: _Sorted, code: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows of each code ``(B, L)`` begin in a list, and how many there are: ``(B, L)`` each."""
    if not len(listed.code):
        return torch.zeros_like(code), torch.zeros_like(code)
    number = torch.searchsorted(listed.code, code).clamp(max=len(listed.code) - 1)
    begin = listed.start[number]
    size = (listed.start[number + 1] - begin).masked_fill(listed.code[number] != code, 0)
    return begin, size
