"""What reads and writes of a written memory share: cells that occur several times."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn.results import Read


def merged(cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cells ``(S, M, n)`` each once, with the weights of all its places; -1 and 0 in the places set free."""
    same = (cell.unsqueeze(3) == cell.unsqueeze(2)) & (cell >= 0).unsqueeze(3)  # (S, M, n, n)
    total = (same.to(weight.dtype) @ weight.unsqueeze(3)).squeeze(3)
    repeated = same.tril(-1).any(dim=3)
    return cell.masked_fill(repeated, -1), total.masked_fill(repeated, 0.0)


def rounds(rows: Tensor) -> list[Tensor]:
    """Places of rows ``(n,)`` in rounds: the n-th time that a row occurs is in the n-th round."""
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    place = torch.arange(len(rows), device=rows.device)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    start = torch.cummax(place.masked_fill(~first, 0), dim=0).values
    turn = place - start  # how often the row occurred before
    return [order[turn == number] for number in range(int(turn.max()) + 1)]


def shaped(read: Read, shape: torch.Size) -> Read:
    """A read of heads ``(S, M)`` with the leading dimensions that the query had."""
    return Read(*(part.reshape(*shape, *part.shape[2:]) for part in read))
