# pyright: strict
"""A script as a user writes it, over the whole public API. It runs, and strict type checkers accept it.

What they are made to ignore are methods of PyTorch itself that have no types.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmn import (
    Answer,
    EncodedMemory,
    Evaluation,
    ExactIndex,
    FactoidQA,
    FactTable,
    HardAttention,
    Index,
    Memory,
    MemoryNetwork,
    QuestionSet,
    Read,
    SearchResult,
    SoftmaxAttention,
    SoftmaxReader,
    make_index,
    sampled_nll,
    tune,
)
from hmn.errors import HMNError
from hmn.index import ClusterIndex, HierarchicalIndex
from hmn.nn import IndexedMemory, KMIPSAttention, KMIPSReader, Strategy

CELLS, FEATURES, VALUES, BATCH = 400, 16, 8, 4


class Model(nn.Module):
    """A layer of K-MIPS attention in a model of one's own."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, FEATURES)
        self.memory = Memory(keys, values, trainable=True)
        self.attention = KMIPSAttention(self.memory, k=8, index="cluster:num_clusters=20", scale=4.0)

    def forward(self, inputs: Tensor, target: Tensor | None = None) -> Tensor:
        read: Read = self.attention(self.encoder(inputs), target)
        return read.value


class Encoder(nn.Module):
    """An encoder of cells, for an ``EncodedMemory``."""

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.table = nn.Embedding(num_cells, FEATURES)

    def forward(self, cells: Tensor) -> Tensor:
        return functional.normalize(self.table(cells), dim=1)

    def all_keys(self) -> Iterator[Tensor]:
        for first in range(0, self.num_cells, 128):
            yield self.forward(torch.arange(first, min(first + 128, self.num_cells)))


def best_cells(read: Read[Tensor | None]) -> list[int]:
    """An output module: any function of what was read."""
    return [int(cell) for cell in read.cell[:, 0]]


def train_a_layer(keys: Tensor, values: Tensor) -> float:
    model = Model(keys, values)
    dense = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)
    sparse = torch.optim.SparseAdam(list(model.memory.parameters()), lr=1e-3)
    query, target = torch.randn(BATCH, FEATURES), torch.randint(CELLS, (BATCH,))
    loss = functional.mse_loss(model(query, target), torch.zeros(BATCH, VALUES))
    torch.autograd.backward(loss)
    dense.step()  # pyright: ignore[reportUnknownMemberType]
    sparse.step()  # pyright: ignore[reportUnknownMemberType]
    model.attention.refresh()
    return loss.item()


def search(keys: Tensor, queries: Tensor) -> float:
    index = ClusterIndex(num_clusters=20)
    index.build(keys)
    tuned = tune(index, queries, k=5, target_recall=0.9)
    result: SearchResult = index.search(queries, k=5)
    structures: list[Index] = [make_index("exact"), HierarchicalIndex(), ExactIndex(keys)]
    for structure in structures:
        structure.build(keys)
        structure.add(torch.tensor([CELLS]), keys[:1])
        structure.update(torch.tensor([0]), keys[1:2])
        structure.remove(torch.tensor([CELLS]))
        state: dict[str, Tensor] = structure.state_dict()
        structure.load_state_dict(state)
    return tuned.recall + float(result.reads.mean()) + len(index)


def ask_a_network() -> list[int]:
    memory = EncodedMemory(Encoder(CELLS))
    memory.renew()
    indexed = IndexedMemory(memory, "cluster:num_clusters=20")
    reader = KMIPSReader(indexed, k=8, strategy=Strategy.parse("k-mips+rand-block:16", 8))
    network = MemoryNetwork(nn.Linear(FEATURES, FEATURES), indexed, reader, best_cells)
    query, gold = torch.randn(BATCH, FEATURES), torch.tensor([0, 3, 5, 9])
    candidates, score = network.attend(query, gold, torch.Generator().manual_seed(0))
    correct = candidates.cell == gold.unsqueeze(1)  # (B, C)
    torch.autograd.backward(sampled_nll(score, correct, candidates.probability).mean())
    exact = IndexedMemory(memory)
    full = MemoryNetwork(nn.Identity(), exact, SoftmaxReader(exact), best_cells)
    answers: list[int] = network(query, k=5)
    of_all: list[int] = full(query, k=5)
    return answers + of_all


def other_attention(keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
    memory = Memory(keys, values)
    soft: Read = SoftmaxAttention(memory)(queries)
    hard_attention = HardAttention(memory)
    hard: Read = hard_attention(queries)
    return soft.value + hard.value + hard_attention.loss(hard, torch.ones(len(queries)))


def answer_questions(folder: Path) -> list[str]:
    facts = FactTable.read(folder / "facts.tsv")
    valid = QuestionSet.read(folder / "valid.tsv", facts)
    try:
        qa = FactoidQA(facts, reader="kmips").fit(folder / "train.tsv", valid=valid, epochs=1)
    except HMNError as error:
        raise SystemExit(str(error)) from None
    qa.save_pretrained(folder / "model")
    qa = FactoidQA.from_pretrained(folder / "model")
    evaluation: Evaluation = qa.evaluate(valid)
    best: Answer = qa.ask("where was ada lovelace born?", k=1)[0]
    return [f"{answer} ({evaluation.fact_accuracy:.3f})" for answer in best.answers]


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(CELLS, FEATURES, generator=generator)
    values = torch.randn(CELLS, VALUES, generator=generator)
    queries = torch.randn(64, FEATURES, generator=generator)
    print(train_a_layer(keys.clone(), values), search(keys, queries), ask_a_network())
    print(other_attention(keys, values, queries).shape)


if __name__ == "__main__":
    main()
