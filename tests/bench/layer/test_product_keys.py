"""Product keys read the best of all pairs."""

from __future__ import annotations

import pytest
import torch
from bench.layer.product_keys import ProductKeyLayer
from torch.nn import functional as F


@pytest.mark.parametrize("sparse", [False, True])
def test_they_compute_their_definition(sparse: bool) -> None:
    torch.manual_seed(0)
    layer = ProductKeyLayer(8, 81, heads=3, k=5, key_features=6, sparse=sparse)
    use, inputs = layer.count_use(), torch.randn(2, 4, 8)
    flat = inputs.flatten(0, 1)
    query = layer.query(flat).view(8, 3, 6)
    query = layer.log_scale.exp() * query / query.square().mean(dim=-1, keepdim=True).sqrt()
    total = torch.zeros(())
    for head in range(3):
        first, second = layer.half_keys[head]
        keys = torch.cat([first.repeat_interleave(9, dim=0), second.repeat(9, 1)], dim=1)  # (81, 6)
        best = (query[:, head] @ keys.T).topk(5, dim=1)
        weight = best.values.softmax(dim=1)
        total = total + (weight.unsqueeze(2) * layer.values.weight[best.indices]).sum(dim=1)
    wanted = layer.output(total * F.silu(layer.gate(flat))).view(2, 4, 8)
    torch.testing.assert_close(layer(inputs), wanted, rtol=1e-4, atol=1e-5)
    assert int(use.reads.sum()) == 8 * 3 * 5
    layer(inputs).square().sum().backward()
    gradient = layer.values.weight.grad
    assert gradient is not None and gradient.is_sparse == sparse


def test_the_cells_are_a_square() -> None:
    with pytest.raises(ValueError, match="expected a square"):
        ProductKeyLayer(8, 80)
