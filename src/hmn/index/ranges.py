"""All cells that score at least a number: searches ask for more cells until the last one scores less."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.index.allowed import Allowed, Where, check_where
from hmn.index.checks import as_tensor, check_count
from hmn.index.protocol import Searcher
from hmn.results import RangeResult, SearchResult

FIRST = 32
"""Results per query that are asked for at first."""
MORE = 4
"""Factor of that number for queries that may have more."""
PLACES = 1 << 22
"""Upper limit of the places of results that are held at a time, but for one query."""


def search_range(
    searcher: Searcher,
    query: Tensor,
    least: float | Tensor,
    limit: int | None = None,
    allowed: Allowed | None = None,
) -> RangeResult:
    """Find all cells that score at least a number; see ``Index.search_range``."""
    # 1. Ask for a few cells per query.
    # 2. Queries whose last cell scores less, or that have no more cells, are done.
    # 3. Ask for more cells per query for the others.
    # 4. Put the cells of each query side by side.
    query = as_tensor(query, "query", floats=True)
    if query.dim() != 2 or not len(query):
        empty = searcher.search(query, 1, allowed)  # refuses what is no matrix
        device = empty.cell.device
    else:
        none = torch.empty(0, dtype=torch.int64, device="cpu")
        device = searcher.search(query[:0], 1, _of(allowed, none, len(query))).cell.device
    most = len(searcher)
    bound = _least(least, len(query)).to(device)  # (B,) float64
    if limit is not None:
        most = min(most, check_count("limit", limit))
    reads = torch.zeros(len(query), dtype=torch.float32, device=device)
    scored = torch.zeros(len(query), dtype=torch.int64, device=device)
    found, left, k = list[tuple[Tensor, Tensor, Tensor]](), torch.arange(len(query), device=device), FIRST
    while len(left):
        k = min(k, max(1, most))
        undone = []
        for lines in torch.split(left, max(1, PLACES // k)):
            result = searcher.search(query[lines.to(query.device)], k, _of(allowed, lines, len(query)))
            reads[lines] += result.reads
            scored[lines] += result.cells_scored
            reaches = (result.cell >= 0) & (result.score >= bound[lines].unsqueeze(1))  # (b, k)
            done = ~reaches[:, -1] | (k >= most)
            undone.append(lines[~done])
            found.append(_taken(result, lines, reaches & done.unsqueeze(1)))
        left, k = torch.cat(undone), k * MORE
    line, score, cell = (torch.cat(part) for part in zip(*found, strict=True)) if found else _nothing(device)
    order = line.argsort(stable=True)
    begin = torch.zeros(len(query) + 1, dtype=torch.int64, device=device)
    begin[1:] = torch.bincount(line, minlength=len(query)).cumsum(0)
    return RangeResult(score[order], cell[order], begin, reads, scored)


def _taken(result: SearchResult, lines: Tensor, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, score and cell, each ``(m,)``, of the places ``(b, k)`` that are taken from a result."""
    number = lines.unsqueeze(1).expand_as(taken)[taken]
    return number, result.score[taken], result.cell[taken]


def _nothing(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.empty(0, dtype=torch.int64, device=device)
    return none, none.float(), none


def _of(allowed: Allowed | None, lines: Tensor, queries: int) -> Allowed | None:
    """What is allowed to some queries ``(b,)`` of a batch."""
    if not isinstance(allowed, Where):
        return allowed
    column, low, high = check_where(allowed, queries)
    if len(low) == 1:
        return Where(column, int(low), int(high))
    return Where(column, low[lines.to(low.device)], high[lines.to(high.device)])


def _least(least: object, queries: int) -> Tensor:
    """The lowest score of each query ``(B,)``, as float64 on the CPU or where it was given."""
    number = isinstance(least, Real)
    bound = as_tensor([least] if number else least, "least", floats=True).detach()
    if bound.dtype == torch.bool or bound.is_complex():
        raise ConfigError(f"least is of type {bound.dtype}, expected a number, or one for each query")
    if bool(bound.isnan().any()):
        raise NonFiniteError("least holds NaN, expected a number, or one for each query")
    one = number or bound.dim() == 0
    if not one and tuple(bound.shape) != (queries,):
        got = f"{tuple(bound.shape)} for {queries} queries"
        raise ShapeError(f"least is {got}, expected one number, or one for each query")
    return bound.double().reshape(-1).expand(queries) if one else bound.double()
