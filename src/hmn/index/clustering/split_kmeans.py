"""Many small k-means at once: each part of the points is divided into pieces of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn.index.clustering.kmeans import unit_rows

POINTS_AT_A_TIME = 1 << 18
"""Points that are worked on at a time, padding included."""
COSINES_AT_A_TIME = 1 << 24
"""Cosines of points with centres that are computed at a time, where several parts are worked on at once."""


def divide(
    points: Tensor, part: Tensor, pieces: Tensor, *, generator: torch.Generator, rounds: int
) -> Tensor:
    """Divide each part of the points into pieces, by spherical k-means within the part.

    Args:
        points: ``(N, D)`` float; only their directions count.
        part: ``(N,)`` int64 part of each point, 0 to P - 1.
        pieces: ``(P,)`` int64 pieces of each part, at least 1, at most its points.
        generator: of all randomness.
        rounds: rounds of assignment and averaging.

    Returns:
        ``(N,)`` int64 piece of each point. Pieces are numbered part by part: those of the first part are 0 to
        ``pieces[0] - 1``.
    """
    # 1. Order the points by part, and at random within each: its first points are the first centres.
    # 2. Order the parts by size, and take together as many of like size as fit, padded to the largest.
    # 3. Run k-means on all of those parts at once.
    count = torch.bincount(part, minlength=len(pieces))  # (P,)
    first_piece = pieces.cumsum(0) - pieces
    result = first_piece[part]  # (N,)
    shuffled = torch.randperm(len(part), generator=generator, device=generator.device).to(part.device)
    order = shuffled[part[shuffled].argsort(stable=True)]
    begin = count.cumsum(0) - count
    parts = (pieces > 1).nonzero().squeeze(1)
    parts = parts[count[parts].argsort(stable=True)]
    while len(parts):
        padded = torch.arange(1, len(parts) + 1, device=part.device) * count[parts]  # the largest comes last
        cosines = padded * pieces[parts].cummax(0).values
        fits = (padded <= POINTS_AT_A_TIME) & (cosines <= COSINES_AT_A_TIME)
        fitting = max(1, int(fits.sum()))
        chosen, parts = parts[:fitting], parts[fitting:]  # (b,)
        within = torch.arange(int(count[chosen].max()), device=part.device)
        held = within < count[chosen].unsqueeze(1)  # (b, n)
        row = order[(begin[chosen].unsqueeze(1) + within).clamp(max=len(order) - 1)]  # (b, n)
        unit = unit_rows(points[row.flatten()].float()).view(*row.shape, -1)  # (b, n, D)
        piece = _pieces(unit, held, pieces[chosen], rounds)  # (b, n)
        result[row[held]] += piece[held]
    return result


def _pieces(unit: Tensor, held: Tensor, pieces: Tensor, rounds: int) -> Tensor:
    """Piece ``(b, n)`` of each point of b parts ``(b, n, D)``; points that are not ``held`` are padding."""
    most = int(pieces.max())
    unit = unit * held.unsqueeze(2)
    number = torch.arange(most, device=unit.device)
    beyond = (number >= pieces.unsqueeze(1)).unsqueeze(1)  # (b, 1, m)
    center = unit[:, :most]  # (b, m, D)
    piece = torch.zeros(held.shape, dtype=torch.int64, device=unit.device)
    for turn in range(rounds + 1):
        best, piece = (unit @ center.transpose(1, 2)).masked_fill_(beyond, -2.0).max(dim=2)
        if turn == rounds:
            break
        share = F.one_hot(piece, most).to(unit.dtype) * held.unsqueeze(2)  # (b, n, m)
        total = share.transpose(1, 2) @ unit  # (b, m, D)
        empty = (share.sum(dim=1) == 0) & ~beyond.squeeze(1)  # (b, m)
        if bool(empty.any()):
            # an empty piece starts again at one of the points that fit theirs worst
            worst = best.masked_fill(~held, 2.0).topk(most, dim=1, largest=False).indices
            restart = unit.gather(1, worst.unsqueeze(2).expand_as(total))
            total = torch.where(empty.unsqueeze(2), restart, total)
        center = F.normalize(total, dim=2)
    return piece
