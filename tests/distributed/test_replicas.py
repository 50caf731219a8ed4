"""Gradients of parameters that are the same on every rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distributed.layers import Gradients
from tests.distributed.processes import gloo

from hmn.distributed import Ranks, sum_gradients


@pytest.mark.slow
@gloo
def test_gradients_of_every_kind_are_summed_and_averaged(got: list[dict[str, Any]]) -> None:
    size = len(got)
    ranks = [dict(Gradients(rank, size).named_parameters()) for rank in range(size)]
    for part in got:
        sums, means = part["layers"]["sums"]
        for name in ranks[0]:
            parts = [rank[name].grad for rank in ranks]
            if all(each is None for each in parts):
                assert sums[name] is means[name] is None
                continue
            wanted = sum(each.to_dense() for each in parts if each is not None)
            assert torch.equal(sums[name].to_dense(), wanted)
            assert torch.equal(means[name].to_dense(), wanted / size)
            assert sums[name].is_sparse == (name in {"sparse", "single"})
        assert sums["dense"].shape == (3, 5) and sums["wide"].dtype == torch.float64


def test_one_rank_keeps_its_gradients() -> None:
    model = Gradients(0, 1)
    sum_gradients(model, Ranks())
    assert torch.equal(model.dense.grad, torch.ones(3, 5)) and model.none.grad is None
