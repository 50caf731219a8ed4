"""A memory on 2 and 4 ranks gives what one process gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distributed.processes import (
    INDEXES,
    QUERIES,
    STEPS,
    D,
    K,
    V,
    gloo,
    joined,
    mapped,
    near,
    queries,
    tensors,
    trained,
)

from hmn.distributed import ShardedMemory
from hmn.errors import CellError, ConfigError
from hmn.nn import KMIPSAttention, Memory

pytestmark = [pytest.mark.slow, gloo]


@pytest.mark.parametrize(("name", "num_cells"), [("ties", 203), ("few", None)])
def test_search_finds_the_same_cells_and_orders_ties_by_id(
    got: list[dict[str, Any]], name: str, num_cells: int | None
) -> None:
    num_cells = num_cells or min(3, len(got))
    data = tensors(num_cells, whole=True)
    score, cell = (data.query @ data.keys.T).sort(dim=1, descending=True, stable=True)
    found = min(K, num_cells)
    assert num_cells < K or bool((score[:, :K].diff() == 0).any()), "no ties"
    assert torch.equal(joined(got, name, "cell")[:, :found], cell[:, :found])
    assert torch.equal(joined(got, name, "score")[:, :found], score[:, :found])
    assert bool((joined(got, name, "cell")[:, found:] == -1).all())
    assert bool((joined(got, name, "score")[:, found:] == -torch.inf).all())
    assert joined(got, name, "cell").shape == (sum(QUERIES), K)


def test_reads_are_summed_over_the_ranks(got: list[dict[str, Any]]) -> None:
    assert joined(got, "few", "reads").tolist() == [min(3, len(got))] * sum(QUERIES)
    assert joined(got, "few", "cells_scored").tolist() == [min(3, len(got))] * sum(QUERIES)


def test_no_cells_at_all_give_zeros(got: list[dict[str, Any]]) -> None:
    assert torch.equal(joined(got, "nothing"), torch.zeros(sum(QUERIES), D))


@pytest.mark.parametrize("index", INDEXES)
def test_the_layer_is_trained_as_in_one_process(got: list[dict[str, Any]], index: str) -> None:
    data = tensors()
    memory = Memory(data.keys.clone(), data.values.clone(), trainable=True)
    wanted = trained(memory, data, 1, 0, INDEXES[index])
    for step in range(STEPS):
        near(torch.tensor(sum(part[index]["loss"][step] for part in got)), torch.tensor(wanted["loss"][step]))
        cells = torch.cat([part[index]["cell"][step] for part in got])
        assert torch.equal(cells, wanted["cell"][step])
    for name in ("keys.grad", "values.grad", "query.grad", "keys", "values", "read"):
        near(joined(got, index, name), wanted[name])
    assert bool((wanted["keys.grad"] != 0).any()) and not torch.equal(wanted["keys"], data.keys)
    names = ["memory.shard.key_table.weight", "memory.shard.value_table.weight"]
    assert all(part[index]["state"] == names for part in got)


def test_gradients_are_averaged_where_asked(got: list[dict[str, Any]]) -> None:
    wanted = torch.zeros(203, D)
    wanted[::3] = 1  # each rank reads the cells once: their sum, divided by the number of ranks
    near(joined(got, "averaged"), wanted)


def test_distributed_data_parallel_trains_the_rest_and_leaves_the_shards_alone(
    got: list[dict[str, Any]],
) -> None:
    data = tensors()
    wanted = mapped(Memory(data.keys, data.values, trainable=True), data, 1, 0)
    near(joined(got, "ddp", "keys"), wanted["keys"])
    for part in got:
        near(part["ddp"]["linear"], wanted["linear"])


@pytest.mark.parametrize("num_cells", [203, 2030])
def test_bytes_sent_are_those_of_the_formula_for_any_number_of_cells(
    got: list[dict[str, Any]], num_cells: int
) -> None:
    size, header = len(got), 16
    batches = [len(queries(torch.zeros(sum(QUERIES)), size, rank)) for rank in range(size)]
    for rank, part in enumerate(got):
        own, others = batches[rank], sum(batches) - batches[rank]
        search = 4 * D * own * (size - 1) + 4 * (2 * K + 2) * others + 2 * header * (size - 1)
        # two distinct cells, one on the first rank and one on the last
        asked = (rank != 0) + (rank != size - 1)
        answered = (size - 1) * ((rank == 0) + (rank == size - 1))
        read = 4 * asked + 4 * (D + V) * answered + 2 * header * (size - 1)
        back = 4 * (D + V) * asked + header * (size - 1)
        assert part["bytes"][num_cells]["sent"] == [search, read, back]


def test_an_error_of_one_rank_reaches_all_others_and_they_go_on(got: list[dict[str, Any]]) -> None:
    bad = len(got) - 1
    expected = {"query": "NonFiniteError: ", "cell": "CellError: ", "own code": "ZeroDivisionError: "}
    for step, error in expected.items():
        errors = [part["errors"][step] for part in got]
        assert errors[bad].startswith(error)
        assert errors[:bad] == [f"RankError: rank {bad} of {len(got)} has failed: {errors[bad]}"] * bad
    assert {part["errors"]["afterwards"] for part in got} == {"1"}


def test_memories_and_steps_that_differ_are_refused_on_every_rank(got: list[dict[str, Any]]) -> None:
    bad = len(got) - 1
    for rank, part in enumerate(got):
        errors = part["errors"]
        assert errors["features"].startswith(
            f"ConfigError: the memory of rank {bad} differs from that of rank 0"
        )
        assert f"rank {rank} has keys of {D + (rank == bad)} features" in errors["features"]
        who = "rank" if rank < bad or bad == 1 else "ranks"
        other = bad if rank < bad else ", ".join(map(str, range(bad)))
        assert errors["step"].startswith(
            f"RankError: {who} {other} did not exchange queries for {K + (rank == bad)}"
        )
        assert errors["after that"].endswith("start the ranks again (they are out of step since then)")


def test_settings_that_a_sharded_memory_cannot_serve_are_refused(got: list[dict[str, Any]]) -> None:
    for rank, part in enumerate(got):
        outside = part["errors"]["not in the group"]
        assert outside.startswith(
            f"ConfigError: rank {rank} is not in the process group" if rank else "nothing"
        )
        assert part["errors"]["ranks"].startswith("ConfigError: ranks is int, expected hmn.distributed.Ranks")
        assert part["errors"]["another"].startswith(
            "ConfigError: the memory of a ShardedMemory is not replaced"
        )
        assert part["errors"]["given twice"].startswith("ConfigError: index is given twice")


def test_one_process_needs_no_group() -> None:
    data = tensors()
    memory = ShardedMemory(Memory(data.keys, data.values))
    plain = KMIPSAttention(Memory(data.keys, data.values), K)(data.query)
    read = KMIPSAttention(memory, K)(data.query)
    assert torch.equal(read.cell, plain.cell)
    torch.testing.assert_close(read.value, plain.value)
    assert memory.ranks.bytes_sent == 0 and len(memory) == 203
    assert torch.equal(memory.memory.keys_of(torch.tensor([[3], [4]])), data.keys[3:5].unsqueeze(1))
    assert torch.equal(memory.memory.values_of(torch.tensor([5])), data.values[5:6])
    with pytest.raises(CellError, match="there is no cell -1, expected cells from 0 to 202"):
        memory.memory.rows_of(torch.tensor([-1]))
    with pytest.raises(ConfigError, match=r"memory is Tensor, expected hmn\.Memory"):
        ShardedMemory(data.keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_cells", [3, 8, 9, 700])
def test_equal_scores_are_chosen_by_id_however_many_there_are(num_cells: int) -> None:
    keys = torch.ones(num_cells, D)
    keys[num_cells // 2] = 2.0
    found = ShardedMemory(Memory(keys)).search(torch.ones(2, D), K)
    others = [cell for cell in range(num_cells) if cell != num_cells // 2]
    wanted = ([num_cells // 2, *others] + [-1] * K)[:K]
    assert found.cell.tolist() == [wanted] * 2


def test_refresh_takes_the_cells_of_this_rank_alone() -> None:
    data = tensors()
    memory = ShardedMemory(Memory(data.keys.clone()), "cluster:num_clusters=8,num_probes=8")
    memory.search(data.query, K)
    with torch.no_grad():
        memory.memory.shard.keys.data[5] = 100.0  # not counted by PyTorch
    memory.refresh(torch.tensor([5, 203, 900]))
    best = memory.search(torch.ones(1, D), 1)
    assert int(best.cell) == 5
