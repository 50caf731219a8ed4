"""Candidates in PyTorch: listed, narrowed and scored, the last steps of a search that scores few keys."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_NUMBERS, CHUNK_ACCELERATOR = 1 << 22, 1 << 26
"""Numbers gathered at a time: on a processor its cache holds them, on an accelerator its memory does."""


def best_of(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See ``hmn._native.best_of``."""
    return _best_of_distinct(query, keys, distinct(candidate), k)


def list_rows(listed: Tensor, begin: Tensor, size: Tensor, filled: Tensor, candidate: Tensor) -> None:
    """See ``hmn._native.list_rows``."""
    each = size.flatten()
    total = int(each.sum())
    if not total:
        return
    lookup = torch.repeat_interleave(torch.arange(len(each), device=listed.device), each, output_size=total)
    number = torch.arange(total, device=listed.device)
    entry = begin.flatten()[lookup] + number - (each.cumsum(0) - each)[lookup]
    line = lookup // size.shape[1]
    before = size.sum(dim=1).cumsum(0) - size.sum(dim=1) - filled
    candidate[line, number - before[line]] = listed[entry].long()


def most_frequent(candidate: Tensor, limit: int) -> Tensor:
    """See ``hmn._native.most_frequent``."""
    once = distinct(candidate)
    if once.shape[1] <= limit:
        return once
    # both in ascending order, so that each candidate finds its column
    ascending = once.flip(1).contiguous()
    column = torch.searchsorted(ascending, candidate.contiguous())
    count = torch.zeros_like(ascending).scatter_add_(1, column, (candidate >= 0).long())
    kept = count.argsort(dim=1, descending=True, stable=True)[:, :limit]
    return ascending.gather(1, kept)


def distinct(candidate: Tensor) -> Tensor:
    """Candidates ``(B, C)``, each once: the rows in descending order, then ``-1``; as wide as is needed."""
    if not candidate.numel():
        return candidate
    ordered = candidate.sort(dim=1, descending=True).values
    kept = ordered >= 0
    kept[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return pressed(ordered, kept)


def pressed(candidate: Tensor, kept: Tensor) -> Tensor:
    """The candidates ``(B, C)`` that are ``kept``, moved to the left in their order, then ``-1``."""
    width = int(kept.sum(dim=1).amax()) if kept.numel() else 0
    place = torch.where(kept, kept.cumsum(dim=1) - 1, width)
    left = candidate.new_full((len(candidate), width + 1), -1)
    return left.scatter_(1, place, candidate)[:, :width]


def _best_of_distinct(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    b, features = len(candidate), max(1, keys.shape[1])
    at_once = (CHUNK_NUMBERS if query.device.type == "cpu" else CHUNK_ACCELERATOR) // features
    score = torch.full((b, k), -torch.inf, device=query.device)
    row = torch.full((b, k), -1, dtype=torch.int64, device=query.device)
    place = torch.arange(1, candidate.shape[1] + 1, device=candidate.device)
    width = torch.where(candidate >= 0, place, 0).amax(dim=1) if candidate.numel() else row.new_zeros(b)
    # queries with as many candidates go together, so that little is computed for places that are not used
    order = width.argsort(descending=True)
    widths, start = width[order].tolist(), 0
    while start < b and widths[start]:
        columns = min(widths[start], max(1, at_once))
        lines = order[start : start + max(1, at_once // columns)]
        chosen, vector = candidate[lines, : widths[start]], query[lines].float().unsqueeze(2)  # (b, D, 1)
        scores = [_products(keys, some, vector) for some in torch.split(chosen, columns, dim=1)]
        kept = min(k, widths[start])
        best = torch.cat(scores, dim=1).topk(kept, dim=1)
        score[lines, :kept] = best.values
        row[lines, :kept] = chosen.gather(1, best.indices)
        start += len(lines)
    return score, row


def _products(keys: Tensor, candidate: Tensor, vector: Tensor) -> Tensor:
    b, width = candidate.shape
    chosen = keys.index_select(0, candidate.clamp(min=0).flatten()).float().view(b, width, -1)
    return torch.bmm(chosen, vector).squeeze(2).masked_fill(candidate < 0, -torch.inf)
