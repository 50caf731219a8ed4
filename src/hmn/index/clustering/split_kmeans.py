"""Many small k-means at once: each part of the points divided into directions of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn.index.clustering.kmeans import unit_rows

PART = 1 << 18
"""Points, with padding, that are worked on at a time."""


def divide(
    points: Tensor, part: Tensor, pieces: Tensor, *, generator: torch.Generator, rounds: int
) -> Tensor:
    """Divide each part of the points among so many pieces, by spherical k-means within the part.

    Args:
        points: ``(N, D)`` float; only their directions count.
        part: ``(N,)`` int64 part of each point, 0 to P - 1.
        pieces: ``(P,)`` int64 pieces of each part, at least 1, at most its points.
        generator: of all randomness.
        rounds: of assignment and averaging.

    Returns:
        ``(N,)`` int64 piece of each point; those of one part follow each other, in the order of the parts.
    """
    count = torch.bincount(part, minlength=len(pieces))
    first_piece = pieces.cumsum(0) - pieces
    found = first_piece[part]
    # in random order within a part, so that the first points of each are a sample to begin with
    shuffled = torch.randperm(len(part), generator=generator).to(part.device)
    order = shuffled[part[shuffled].argsort(stable=True)]
    begin = count.cumsum(0) - count
    parts = (pieces > 1).nonzero().squeeze(1)
    parts = parts[count[parts].argsort(stable=True)]
    at = 0
    while at < len(parts):
        # parts of about one size together: the largest is the last
        some = len(parts) - at
        fitting = torch.arange(1, some + 1, device=part.device) * count[parts[at:]] <= PART
        some = max(1, int(fitting.sum()))
        chosen = parts[at : at + some]
        at += some
        within = torch.arange(int(count[chosen].max()), device=part.device)
        held = within < count[chosen].unsqueeze(1)  # (b, n)
        row = order[(begin[chosen].unsqueeze(1) + within).clamp(max=len(order) - 1)]
        unit = unit_rows(points[row.flatten()].float()).view(*row.shape, -1)
        piece = _pieces(unit, held, pieces[chosen], rounds)
        found[row[held]] += piece[held]
    return found


def _pieces(unit: Tensor, held: Tensor, pieces: Tensor, rounds: int) -> Tensor:
    """The piece ``(b, n)`` of each point of b parts ``(b, n, D)``, of which only those held count."""
    most = int(pieces.max())
    unit = unit * held.unsqueeze(2)
    number = torch.arange(most, device=unit.device)
    beyond = (number >= pieces.unsqueeze(1)).unsqueeze(1)  # (b, 1, m)
    center = unit[:, :most]
    piece = torch.zeros(held.shape, dtype=torch.int64, device=unit.device)
    for turn in range(rounds + 1):
        best, piece = (unit @ center.transpose(1, 2)).masked_fill_(beyond, -2.0).max(dim=2)
        if turn == rounds:
            break
        share = F.one_hot(piece, most).to(unit.dtype) * held.unsqueeze(2)
        total = share.transpose(1, 2) @ unit
        empty = (share.sum(dim=1) == 0) & ~beyond.squeeze(1)
        if bool(empty.any()):
            # an empty piece begins anew at one of the points that fit theirs worst
            worst = best.masked_fill(~held, 2.0).topk(most, dim=1, largest=False).indices
            anew = unit.gather(1, worst.unsqueeze(2).expand_as(total))
            total = torch.where(empty.unsqueeze(2), anew, total)
        center = F.normalize(total, dim=2)
    return piece
