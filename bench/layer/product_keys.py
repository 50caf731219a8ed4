"""Product keys (Lample et al. 2019) in the form of ``hmn.nn.MemoryLayer``, and with the same parts around."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hmn.nn.layer.use import CellUse


class ProductKeyLayer(nn.Module):
    """A memory whose keys are all pairs of two tables of half keys, searched exactly.

    Every head has half keys of its own, as in the papers. The k best of each half give ``k * k`` pairs, of
    which the k best are read. Queries, temperature, gate and output are those of ``hmn.nn.MemoryLayer``.

    Args:
        d_model: features of the input and of the output.
        cells: number of cells, a square.
        heads: number of queries per position.
        k: number of cells that a query reads.
        key_features: features of a query.
        sparse: whether the values have sparse gradients.
    """

    def __init__(
        self,
        d_model: int,
        cells: int,
        heads: int = 4,
        k: int = 32,
        *,
        key_features: int = 64,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.side = math.isqrt(cells)
        if self.side**2 != cells:
            raise ValueError(f"there are {cells} cells, expected a square, such as {self.side**2}")
        self.heads, self.k, self.features = heads, k, key_features
        self.half_keys = nn.Parameter(torch.randn(heads, 2, self.side, key_features // 2))
        values = torch.randn(cells, d_model) * d_model**-0.5
        self.values = nn.EmbeddingBag(cells, d_model, mode="sum", sparse=sparse, _weight=values)
        self.query = nn.Linear(d_model, heads * key_features)
        self.scaling = nn.RMSNorm(key_features, elementwise_affine=False)
        self.log_scale = nn.Parameter(torch.tensor(-0.5 * math.log(key_features)))
        self.gate = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.use: CellUse | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Read the memory: ``(..., d_model)`` from ``(..., d_model)``."""
        flat = inputs.flatten(0, -2)  # (P, d_model)
        query = self.scaling(self.query(flat).unflatten(-1, (self.heads, self.features)))
        query = query * self.log_scale.exp()
        cell, weight = self.choose(query)
        if self.use is not None:
            self.use.add(cell, weight)
        total = self.values(cell.flatten(1), per_sample_weights=weight.flatten(1))  # (P, d_model)
        outputs: Tensor = self.output(total * nn.functional.silu(self.gate(flat)))
        return outputs.view(inputs.shape)

    def choose(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Cells and weights ``(P, heads, k)`` for queries ``(P, heads, D)``."""
        halves = query.view(*query.shape[:2], 2, -1).permute(1, 2, 0, 3)  # (heads, 2, P, D / 2)
        score, best = (halves @ self.half_keys.transpose(-1, -2)).topk(self.k, dim=-1)  # (heads, 2, P, k)
        pairs = (score[:, 0].unsqueeze(-1) + score[:, 1].unsqueeze(-2)).flatten(-2)  # (heads, P, k * k)
        top, place = pairs.topk(self.k, dim=-1)  # (heads, P, k)
        first = best[:, 0].gather(-1, place // self.k)
        second = best[:, 1].gather(-1, place % self.k)
        cell = (first * self.side + second).transpose(0, 1)
        return cell, top.softmax(dim=-1).transpose(0, 1)

    def count_use(self) -> CellUse:
        """Count reads from now on, as ``hmn.nn.MemoryLayer`` does."""
        self.use = CellUse(self.side**2)
        return self.use
