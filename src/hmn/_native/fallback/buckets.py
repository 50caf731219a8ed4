"""Candidates in PyTorch: gather them from buckets, keep the most frequent, score them in full."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_NUMBERS = 1 << 22
"""Floats gathered at a time on a CPU, to stay within its cache."""
CHUNK_ACCELERATOR = 1 << 26
"""Floats gathered at a time on a GPU, to stay within its memory."""


def best_of(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See ``hmn._native.search.best_of``."""
    return _best_of_distinct(query, keys, distinct(candidate), k)


def list_rows(listed: Tensor, begin: Tensor, size: Tensor, filled: Tensor, candidate: Tensor) -> None:
    """See ``hmn._native.buckets.list_rows``."""
    sizes = size.flatten()  # (B * L,)
    total = int(sizes.sum())
    if not total:
        return
    lookup = torch.repeat_interleave(torch.arange(len(sizes), device=listed.device), sizes, output_size=total)
    number = torch.arange(total, device=listed.device)  # (total,)
    source = begin.flatten()[lookup] + number - (sizes.cumsum(0) - sizes)[lookup]
    line = lookup // size.shape[1]
    # rows copied into earlier lines, less the places of this line that were taken before
    offset = size.sum(dim=1).cumsum(0) - size.sum(dim=1) - filled  # (B,)
    candidate[line, number - offset[line]] = listed[source].long()


def most_frequent(candidate: Tensor, limit: int) -> Tensor:
    """See ``hmn._native.buckets.most_frequent``."""
    once = distinct(candidate)  # (B, W)
    if once.shape[1] <= limit:
        return once
    # in ascending order, so that searchsorted finds the column of each candidate
    ascending = once.flip(1).contiguous()
    column = torch.searchsorted(ascending, candidate.contiguous())  # (B, C)
    count = torch.zeros_like(ascending).scatter_add_(1, column, (candidate >= 0).long())  # (B, W)
    # a stable sort keeps the smallest of equally frequent rows
    kept = count.argsort(dim=1, descending=True, stable=True)[:, :limit]
    return ascending.gather(1, kept)


def distinct(candidate: Tensor) -> Tensor:
    """Candidates ``(B, C)`` without repeats: rows in descending order, then ``-1``; as narrow as possible."""
    if not candidate.numel():
        return candidate
    ordered = candidate.sort(dim=1, descending=True).values
    kept = ordered >= 0
    kept[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return pressed(ordered, kept)


def pressed(candidate: Tensor, kept: Tensor) -> Tensor:
    """The candidates ``(B, C)`` that are ``kept``, moved to the left in their order, then ``-1``."""
    width = int(kept.sum(dim=1).amax()) if kept.numel() else 0
    # everything not kept goes to one more column, which is cut off
    column = torch.where(kept, kept.cumsum(dim=1) - 1, width)
    left = candidate.new_full((len(candidate), width + 1), -1)
    return left.scatter_(1, column, candidate)[:, :width]


def _best_of_distinct(query: Tensor, keys: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Score distinct candidates ``(B, C)``, ``-1`` last in each line, and keep the best k.

    Queries are taken in descending order of their number of candidates, so that those of one chunk have about
    the same number and few unused places are scored. A chunk holds at most ``CHUNK_NUMBERS`` floats of keys:
    some queries with all their candidates, or one query whose candidates are split.
    """
    batch, features = len(candidate), max(1, keys.shape[1])
    at_once = (CHUNK_NUMBERS if query.device.type == "cpu" else CHUNK_ACCELERATOR) // features
    score = torch.full((batch, k), -torch.inf, dtype=torch.float32, device=query.device)
    row = torch.full((batch, k), -1, dtype=torch.int64, device=query.device)
    place = torch.arange(1, candidate.shape[1] + 1, device=candidate.device)
    used = torch.where(candidate >= 0, place, 0)
    width = used.amax(dim=1) if candidate.numel() else row.new_zeros(batch)  # (B,)
    order = width.argsort(descending=True)
    widths, start = width[order].tolist(), 0
    while start < batch and widths[start]:
        columns = min(widths[start], max(1, at_once))
        lines = order[start : start + max(1, at_once // columns)]  # (b,)
        chosen = candidate[lines, : widths[start]]  # (b, W)
        vector = query[lines].float().unsqueeze(2)  # (b, D, 1)
        scores = [_products(keys, part, vector) for part in torch.split(chosen, columns, dim=1)]
        kept = min(k, widths[start])
        best = torch.cat(scores, dim=1).topk(kept, dim=1)
        score[lines, :kept] = best.values
        row[lines, :kept] = chosen.gather(1, best.indices)
        start += len(lines)
    return score, row


def _products(keys: Tensor, candidate: Tensor, vector: Tensor) -> Tensor:
    """Inner products ``(b, W)`` of vectors ``(b, D, 1)`` with candidates ``(b, W)``; -inf for ``-1``."""
    batch, width = candidate.shape
    chosen = keys.index_select(0, candidate.clamp(min=0).flatten()).float()  # (b * W, D)
    chosen = chosen.view(batch, width, -1)  # (b, W, D)
    return torch.bmm(chosen, vector).squeeze(2).masked_fill(candidate < 0, -torch.inf)
