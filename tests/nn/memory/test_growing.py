"""Rows that grow, and an encoded memory whose cells come and go, beside one that is built at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ShapeError
from hmn.index.registry import make_index
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.growing import GrowingRows, held_cells, num_held
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.reader import SoftmaxReader


class RowsEncoder(nn.Module):
    """Keys that are given, as an encoder's output."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    @property
    def num_cells(self) -> int:
        return len(self.rows)

    def forward(self, cells: Tensor) -> Tensor:
        return self.rows[cells]

    def all_keys(self) -> Iterator[Tensor]:
        yield self.rows


def test_rows_grow_in_place_until_there_is_no_room() -> None:
    growing, rows = GrowingRows(), torch.arange(6.0).view(3, 2)
    grown = growing.grown(rows, 4)
    assert grown.tolist() == [*rows.tolist(), [0, 0]] and grown.data_ptr() != rows.data_ptr()
    grown[3] = 7
    again = growing.grown(grown, 6)
    assert again.data_ptr() == grown.data_ptr() and again[3].tolist() == [7, 7]
    larger = growing.grown(again, 7)
    assert larger.data_ptr() != again.data_ptr() and larger[:4].tolist() == grown.tolist()
    replaced = torch.ones(2, 2)
    assert growing.grown(replaced, 3).tolist() == [[1, 1], [1, 1], [0, 0]]


INDEXES = ("exact", "cluster:num_clusters=8,num_probes=8", "pca-tree:leaf_size=8,num_leaves=99", "hierarchy")


@pytest.mark.parametrize("index", INDEXES)
def test_cells_come_and_go(index: str) -> None:
    """Every search finds what exact search finds among the cells that there are; nothing is built again."""
    torch.manual_seed(0)
    encoder = RowsEncoder(torch.randn(200, 16))
    indexed = IndexedMemory(EncodedMemory(encoder), index)
    memory = indexed.memory
    memory.renew()
    query = torch.randn(20, 16)
    indexed.in_step()
    held = set(range(200))
    for step in range(6):
        count = len(encoder.rows)
        gone = torch.tensor(sorted(held))[torch.randperm(len(held))[:30]]
        indexed.remove(gone)
        held -= set(gone.tolist())
        back = torch.tensor(sorted(memory.gaps))[:10]
        encoder.rows = torch.cat([encoder.rows, torch.randn(15, 16)])
        encoder.rows[back] = torch.randn(len(back), 16)
        indexed.add(torch.cat([back, torch.arange(count, count + 15)]))
        held |= set(back.tolist()) | set(range(count, count + 15))
        cells = torch.tensor(sorted(held))
        assert len(indexed.index) == num_held(memory) == len(held)
        assert torch.equal(held_cells(memory, torch.device("cpu")), cells)
        best = (query @ encoder.rows[cells].T).topk(5)
        found = indexed.search(query, 5)
        if index != "hierarchy":
            assert torch.equal(found.cell, cells[best.indices]), step
        torch.testing.assert_close(found.score, (query.unsqueeze(1) @ encoder.rows[found.cell].mT).squeeze(1))
    if index == "exact":
        read = SoftmaxReader(indexed).read(query, 3)  # type: ignore[arg-type]
        weight = torch.softmax(query @ encoder.rows[cells].T, dim=1)
        torch.testing.assert_close(read.weight, weight.topk(3).values)
    keys = encoder.rows.clone()
    encoder.rows[::7] += 1  # gaps among them
    memory.renew()
    if index != "hierarchy":
        best = (query @ encoder.rows[cells].T).topk(5)
        assert torch.equal(indexed.search(query, 5).cell, cells[best.indices]), "it follows without the gaps"
    encoder.rows = keys
    memory.renew()
    indexed.rebuild()
    assert len(indexed.index) == len(held)
    indexed.refile()


def test_an_index_is_loaded_whatever_the_order_of_its_rows() -> None:
    torch.manual_seed(0)
    keys = torch.randn(40, 8)
    order = torch.randperm(40)
    index = make_index("cluster:num_clusters=4,num_probes=2")
    index.build(keys[order], order)
    state = index.state_dict(with_keys=False)
    memory = EncodedMemory(RowsEncoder(keys))
    memory.renew()
    indexed = IndexedMemory(memory, "cluster:num_clusters=4,num_probes=2")
    indexed.load_index(state)
    query = torch.randn(5, 8)
    torch.testing.assert_close(indexed.search(query, 3).score, index.search(query, 3).score)
    with pytest.raises(ShapeError, match=r"rows\.cell is from 1 to 40"):
        indexed.load_index({**state, "rows.cell": order + 1})
