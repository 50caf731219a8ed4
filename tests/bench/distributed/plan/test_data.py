"""The halves of the generated queries."""

from __future__ import annotations

import torch
from bench.distributed.plan.data import make


def test_halves_of_the_queries_share_none() -> None:
    made = make(500, 6)
    (first, best), (second, _) = made.half(0), made.half(1)
    assert torch.equal(torch.cat([first, second]), made.queries)
    assert torch.equal(best.cell, made.best.cell[:3])
