"""The order in which cells were written: which one came after which."""

from __future__ import annotations

import torch
from torch import Tensor


class Links:
    """Chains of cells in the order in which they were newly written, one chain per head of each sequence.

    These are the temporal links of Differentiable Neural Computers (Graves et al. 2016), with one successor
    and one predecessor per cell. A cell that is written for other content leaves its old chain.

    Args:
        sequences: number of memories, S.
        cells: number of cells of each, N.
    """

    def __init__(self, sequences: int, cells: int, device: torch.device) -> None:
        self.cells = cells
        self._after = torch.full((sequences * cells,), -1, dtype=torch.int64, device=device)
        self._before = self._after.clone()
        self._last = torch.full((sequences, 0), -1, dtype=torch.int64, device=device)

    def reset(self, written: Tensor) -> None:
        """Forget all chains; all linked cells are among those ``(n,)`` written."""
        self._after[written] = -1
        self._before[written] = -1
        self._last = self._last[:, :0]

    def append(self, cells: Tensor) -> None:
        """Put a cell at the end of the chain of each head ``(S, M)``; -1 for none."""
        if self._last.shape != cells.shape:
            self._last = torch.full_like(cells, -1)
        new = cells[cells >= 0]
        if not len(new):
            return
        for links, back in ((self._after, self._before), (self._before, self._after)):
            neighbour = links[new]
            back[neighbour[neighbour >= 0]] = -1
            links[new] = -1
        ended = (self._last.unsqueeze(2) == cells.flatten().masked_fill(cells.flatten() < 0, -2)).any(dim=2)
        last = self._last.masked_fill(ended, -1)
        linked = (cells >= 0) & (last >= 0)
        self._after[last[linked]] = cells[linked]
        self._before[cells[linked]] = last[linked]
        self._last = torch.where(cells >= 0, cells, last)

    def follow(self, cells: Tensor, *, back: bool = False) -> Tensor:
        """The cell after each ``(...)``, or before it; -1 where there is none, and for -1."""
        links = self._before if back else self._after
        return links[cells.clamp(min=0)].masked_fill(cells < 0, -1)
