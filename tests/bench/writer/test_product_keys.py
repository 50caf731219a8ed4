"""Product keys: a slot that no other pair chooses gives back what was written."""

from __future__ import annotations

import torch
from bench.writer.product_keys import ProductKeys


def test_the_best_slots_are_those_of_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(30, 8, generator=generator)
    memory = ProductKeys(queries, 49, 3, k=4, scale=2.0)
    first, second = (part @ keys.T for part, keys in zip(queries.split(4, dim=1), memory.halves, strict=True))
    every = (first.unsqueeze(2) + second.unsqueeze(1)).flatten(1)
    slot, weight = memory.choose(queries)
    best = every.topk(4, dim=1)
    assert torch.equal(slot, best.indices)
    torch.testing.assert_close(weight, torch.softmax(2 * best.values, dim=1))
    assert memory.side == 7 and memory.reads == 7 + 4 * 3 / 8


def test_what_was_written_is_read() -> None:
    queries = torch.eye(8)[:4] + torch.eye(8)[4:]  # each half is one of four, and a centre
    memory = ProductKeys(queries, 16, 2, k=1, scale=1.0)
    values = torch.randn(4, 2)
    memory.write(queries, values)
    torch.testing.assert_close(memory.read(queries), values)
