"""A dense memory with the methods of ``WrittenMemory``: each step reads and writes all N cells.

Its rows are replaced, not changed, so PyTorch records each step with copies of all rows, as for a Neural
Turing Machine. It is the reference for results, in tests, and for time and memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmn.nn.writing.changing import LEAST_WEIGHT
from hmn.results import Read


class DenseMemory(nn.Module):
    """Cells that are all read and all written, by plain PyTorch; see ``WrittenMemory`` for the parts.

    A read gives all N cells and their weights. ``k`` of ``read`` and ``find`` leaves all weights but the k
    largest at zero.
    """

    rows: Tensor

    def __init__(
        self,
        cells: int,
        features: int,
        values: int | None = None,
        *,
        sequences: int = 1,
        initial: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.cells, self.features, self.values, self.sequences = cells, features, values, sequences
        self.width = features + (values or 0)
        first = torch.zeros(cells, self.width, dtype=dtype) if initial is None else initial
        self.given, self.linked, self.first = initial is not None, False, first.repeat(sequences, 1, 1)
        self.last: Read | None = None

    def begin(self) -> None:
        """Start new sequences."""
        self.rows, self.last = self.first, None
        self.held = torch.full((self.sequences, self.cells), self.given)
        never = torch.arange(-self.cells, 0, dtype=torch.float64)  # the first cell is the oldest
        self.used, self.time = never.repeat(self.sequences, 1), 0

    def cut(self) -> None:
        """Let no gradient pass from here on back."""
        self.rows = self.rows.detach()
        if self.last is not None:
            self.last = Read(*(part.detach() for part in self.last))

    def read(self, query: Tensor, k: int, scale: float | Tensor = 1.0) -> Read:
        """Read all cells."""
        found = self.find(query, k, scale)
        self.use(found)
        return found

    def find(self, query: Tensor, k: int, scale: float | Tensor = 1.0) -> Read:
        """As ``read``, without a use."""
        heads = query.reshape(self.sequences, -1, self.features)  # (S, M, D)
        score = heads @ self.rows[..., : self.features].transpose(1, 2)  # (S, M, N)
        left = score.masked_fill(~self.held.unsqueeze(1), -torch.inf)
        if k < self.cells:
            worst = left.topk(k, dim=2).values[..., -1:]
            left = left.masked_fill(left < worst, -torch.inf)
        if isinstance(scale, Tensor) and scale.numel() > 1:
            scale = scale.reshape(*heads.shape[:2], 1)
        lowest = torch.finfo(left.dtype).min
        logit = torch.where(left == -torch.inf, lowest, scale * score)
        weight = torch.softmax(logit, dim=2) * (left > -torch.inf)
        values = self.rows if self.values is None else self.rows[..., self.features :]
        cell = torch.arange(self.cells).expand(weight.shape)
        reads = self.held.sum(dim=1, keepdim=True).expand(weight.shape[:2]).float()
        read = Read(weight @ values, weight, cell, left, reads)
        return Read(*(part.reshape(*query.shape[:-1], *part.shape[2:]) for part in read))

    def use(self, read: Read) -> None:
        """Note the cells of a read as used, best last."""
        self.last = read
        weight = read.weight.detach().reshape(self.sequences, -1, self.cells)
        for head in weight.unbind(dim=1):
            self._note(head, ascending=True)

    def _note(self, weight: Tensor, *, ascending: bool) -> None:
        """Note cells with weights ``(S, N)`` as used, in the order of their weights."""
        for number, own in enumerate(weight > LEAST_WEIGHT):
            cells = own.nonzero().squeeze(1)
            order = cells[weight[number, cells].argsort(descending=not ascending)]
            self.used[number, order] = self.time + torch.arange(1.0, len(order) + 1, dtype=torch.float64)
        self.time += self.cells

    def write(
        self,
        found: Read,
        key: Tensor,
        value: Tensor | None = None,
        *,
        gate: Tensor,
        mix: Tensor,
        erase: Tensor | None = None,
    ) -> None:
        """Write all cells by their weights."""
        new = key.reshape(self.sequences, -1, self.features)
        if value is not None:
            new = torch.cat([new, value.reshape(*new.shape[:2], -1)], dim=2)
        heads = new.shape[:2]
        gate, mix = gate.reshape(*heads, 1), mix.reshape(*heads, 1)
        erased = torch.ones_like(new) if erase is None else erase.reshape(new.shape)
        weight = gate * mix * found.weight.reshape(*heads, self.cells)  # (S, M, N)
        fresh = gate * (1 - mix)  # (S, M, 1)
        writes = fresh.detach() > LEAST_WEIGHT
        oldest = self.used.topk(min(heads[1], self.cells), largest=False).indices
        taken = torch.zeros(self.sequences, 1, dtype=torch.int64)
        chosen = []
        for head in range(heads[1]):  # each head that needs one takes the oldest cell that is left
            is_oldest = torch.zeros_like(weight[:, head])
            is_oldest.scatter_(1, oldest.gather(1, taken), 1.0)
            chosen.append(is_oldest * writes[:, head])
            taken = (taken + writes[:, head]).clamp(max=oldest.shape[1] - 1)
        for head in range(heads[1]):
            is_oldest = chosen[head]  # (S, N)
            share = weight[:, head] + fresh[:, head] * is_oldest
            share = share * (share.detach() > LEAST_WEIGHT)
            kept = (1 - share.unsqueeze(2) * erased[:, head].unsqueeze(1)) * (1 - is_oldest.unsqueeze(2))
            self.rows = kept * self.rows + share.unsqueeze(2) * new[:, head].unsqueeze(1)  # (S, N, W)
            self.held = self.held | (share.detach() > 0)
            self._note((share.detach() * (1 - is_oldest)), ascending=False)
            self._note(share.detach() * is_oldest, ascending=False)
