"""Networks that know facts by their weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench.new_facts.parametric import BEST, HEADS, KINDS, Parametric, ProductKeys


def test_product_keys_read_the_best_of_all_slots() -> None:
    """Compared with the scores of all n * n slots in float64."""
    torch.manual_seed(0)
    network = ProductKeys(12, 40 * 40 * 256).eval().double()
    query = torch.randn(6, 12, dtype=torch.float64)
    weight, slot = network.slots(query)
    asked = network.spread(network.query(network.norm(query))).view(6, HEADS, 2, -1)
    first, second = torch.einsum("bhcd,hcnd->bhcn", asked, network.key).unbind(dim=2)
    whole = (first.unsqueeze(3) + second.unsqueeze(2)).flatten(2)  # (B, heads, n * n)
    best = whole.topk(BEST, dim=2)
    assert network.halves == 40 and torch.equal(slot, best.indices)
    torch.testing.assert_close(weight, torch.softmax(best.values, dim=2))
    wanted = (weight.unsqueeze(3) * network.value.weight[slot]).sum(dim=(1, 2))
    torch.testing.assert_close(network(query), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_what_it_is_taught(kind: str) -> None:
    query, answer = torch.randn(64, 16), torch.arange(64) % 40
    network = Parametric(kind, 16, 200_000, 50)
    assert 150_000 < network.size < 600_000
    answers = [np.array([one], np.int32) for one in answer.tolist()]
    assert network.accuracy(query, answers, torch.arange(50)) < 0.3
    taught = network.teach(query, answer, rate=1e-3, most_epochs=80)
    assert taught.epochs <= 80 and taught.learned >= 0.9
    assert network.accuracy(query, answers, torch.arange(50)) > 0.8
