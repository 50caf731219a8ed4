"""Layers and networks on 2 and 4 ranks give what one process gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distributed.layers import encoder_mapped, encoder_trained, grown, transformed
from tests.distributed.processes import QUERIES, STEPS, counts, gloo, joined, near
from torch import Tensor

pytestmark = [pytest.mark.slow, gloo]

Got = list[dict[str, Any]]


@pytest.fixture
def layers(got: Got) -> Got:
    return [part["layers"] for part in got]


def all_near(parts: list[dict[str, Tensor]], wanted: dict[str, Tensor], rtol: float = 1e-5) -> None:
    """Replicas are near what one process has, and equal each other bit for bit."""
    for part in parts:
        assert part.keys() == wanted.keys()
        for name, each in wanted.items():
            near(part[name], each, rtol)
            assert torch.equal(part[name], parts[0][name])


@pytest.mark.parametrize(("name", "cells"), [("encoded", 203), ("encoded few", 2)])
def test_an_encoder_is_trained_as_in_one_process(layers: Got, name: str, cells: int) -> None:
    wanted = encoder_trained(0, 1, None, [cells], "exact")
    for step in range(STEPS):
        loss = sum(part[name]["loss"][step] for part in layers)
        near(torch.tensor(loss), torch.tensor(wanted["loss"][step]))
        cell = torch.cat([part[name]["cell"][step] for part in layers])
        assert torch.equal(cell, wanted["cell"][step])
    near(joined(layers, name, "query.grad"), wanted["query.grad"])
    near(joined(layers, name, "snapshot"), wanted["snapshot"])
    for part in ("gradients", "weights"):
        all_near([rank[name][part] for rank in layers], wanted[part])
    assert all(part[name]["sparse"] for part in layers)
    assert all(bool((each != 0).any()) for each in wanted["gradients"].values())


def test_distributed_data_parallel_trains_an_encoder(layers: Got) -> None:
    all_near([part["encoded ddp"] for part in layers], encoder_mapped(0, 1, None, [203]))


def test_a_transformer_reads_a_memory_in_each_of_its_layers(layers: Got) -> None:
    wanted = transformed(0, 1, None, [203])
    near(joined(layers, "transformed", "keys"), wanted.pop("keys"))
    replicas = [{**part["transformed"]} for part in layers]
    for replica in replicas:
        del replica["keys"]
    # one process reads rows in place: it rounds otherwise, and Adam adds to that
    all_near(replicas, wanted, 1e-4)


def test_cells_that_come_and_go_on_one_rank(layers: Got) -> None:
    wanted = grown(0, 1, None, [203])
    assert torch.equal(joined(layers, "grown", "cell"), wanted["cell"])
    assert [part["grown"]["cells"] for part in layers] == [208] * len(layers)
    found = set(wanted["cell"].flatten().tolist())
    assert found & set(range(203, 208)) and all(cell % 2 for cell in found if cell < 203)


def test_encoders_that_differ_are_refused_on_every_rank(layers: Got) -> None:
    bad = len(layers) - 1
    for rank, part in enumerate(layers):
        error = part["errors"]["encoder"]
        assert error.startswith(
            f"ConfigError: the memory of rank {bad} differs from that of rank 0 in the param"
        )
        assert f"rank {rank} has an encoder with {3 + (rank == bad)} parameters" in error


def test_shares_cover_uneven_and_empty_ranks(layers: Got) -> None:
    size = len(layers)
    assert sum(counts(size)) == 203 and 0 in counts(4) and 0 in QUERIES
