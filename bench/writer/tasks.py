"""Copy, associative recall and priority sort, as in Neural Turing Machines (Graves et al. 2014).

Each task makes a batch of sequences of one length: inputs ``(S, T, I)``, the steps that are asked, and
the bits ``(S, A, bits)`` that the outputs should have there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BITS, ITEM_BITS, ITEM_PARTS = 8, 6, 3
"""Bits of a vector to copy or sort; bits of each of the vectors of an item, and their number per item."""
KEPT = 0.8
"""Share of the sorted vectors that are asked for: 16 of 20."""


class Episode(NamedTuple):
    """A batch of sequences of one length."""

    inputs: Tensor
    asked: Tensor
    target: Tensor


class Task(NamedTuple):
    """A task: how its episodes are made, and the sizes of its inputs and outputs."""

    make: Callable[[int, int, torch.Generator], Episode]
    inputs: int
    outputs: int


def _bits(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator).float()


def copy(sequences: int, length: int, generator: torch.Generator) -> Episode:
    """Vectors between two signs; then all of them in the same order."""
    vectors = _bits((sequences, length, BITS), generator)
    inputs = torch.zeros(sequences, 2 * length + 2, BITS + 2)
    inputs[:, 0, BITS] = 1
    inputs[:, 1 : length + 1, :BITS] = vectors
    inputs[:, length + 1, BITS + 1] = 1
    return Episode(inputs, torch.arange(length + 2, 2 * length + 2), vectors)


def recall(
    sequences: int, items: int, generator: torch.Generator, queries: int = 1, *, shared: int = 0
) -> Episode:
    """Items of three vectors each, all different; then one of them, and the item after it is asked.

    Graves et al. ask once per sequence; training may ask for several items, one after another.

    Args:
        sequences: number of sequences.
        items: number of items of each, at least 2.
        generator: source of the items.
        queries: number of questions per sequence.
        shared: for sequences that share a memory: the number of bits in which their items differ, drawn at
            random. No item is in two sequences. The fewer the bits, the more alike the items are.
    """
    items = max(items, 2)
    part, bits = ITEM_PARTS + 1, ITEM_PARTS * ITEM_BITS
    if shared:
        drawn = _distinct(sequences * items, 1 << shared, generator).view(sequences, items)
        places = torch.randperm(bits, generator=generator)[:shared]
        free = (((drawn.unsqueeze(2) >> torch.arange(shared)) & 1) << places).sum(dim=2)
        numbers = free ^ torch.randint(1 << bits, (), generator=generator)
    else:
        numbers = torch.stack([_distinct(items, 1 << bits, generator) for _ in range(sequences)])
    vectors = ((numbers.unsqueeze(2) >> torch.arange(bits)) & 1).float()
    vectors = vectors.reshape(sequences, items, ITEM_PARTS, ITEM_BITS)
    inputs = torch.zeros(sequences, part * items + 2 * part * queries, ITEM_BITS + 2)
    stored = inputs[:, : part * items].view(sequences, items, part, -1)
    stored[:, :, 0, ITEM_BITS] = 1  # a sign before each item
    stored[:, :, 1:, :ITEM_BITS] = vectors
    chosen = torch.randint(items - 1, (queries, sequences), generator=generator)
    row, asked = torch.arange(sequences), []
    for query in range(queries):  # sign, item, sign, and as many empty inputs as the answer has parts
        start = part * items + 2 * part * query
        inputs[:, start, ITEM_BITS + 1] = inputs[:, start + part, ITEM_BITS + 1] = 1
        inputs[:, start + 1 : start + part, :ITEM_BITS] = vectors[row, chosen[query]]
        asked.append(torch.arange(start + part + 1, start + 2 * part))
    target = torch.cat([vectors[row, now + 1] for now in chosen], dim=1)
    return Episode(inputs, torch.cat(asked), target)


def sort(sequences: int, length: int, generator: torch.Generator, width: float = 1.0) -> Episode:
    """Vectors with priorities from -1 to 1; then those of the highest priorities, highest first.

    A sign stands beside each vector, so that one of zeros with a priority of zero is not an empty input.

    Args:
        sequences: number of sequences.
        length: number of vectors of each.
        generator: source of the vectors and priorities.
        width: share of the range of priorities from which those of a sequence come, at a random place.
    """
    vectors = _bits((sequences, length, BITS), generator)
    priority = width * (2 * torch.rand(sequences, length, generator=generator) - 1)
    if width < 1:
        priority += (1 - width) * (2 * torch.rand(sequences, 1, generator=generator) - 1)
    kept = max(round(KEPT * length), 1)
    inputs = torch.zeros(sequences, length + 1 + kept, BITS + 3)
    inputs[:, :length, :BITS], inputs[:, :length, BITS] = vectors, priority
    inputs[:, :length, BITS + 1] = inputs[:, length, BITS + 2] = 1
    order = priority.argsort(dim=1, descending=True)[:, :kept]
    target = vectors.gather(1, order.unsqueeze(2).expand(-1, -1, BITS))
    return Episode(inputs, torch.arange(length + 1, length + 1 + kept), target)


def _distinct(count: int, below: int, generator: torch.Generator) -> Tensor:
    """Distinct whole numbers ``(count,)`` in random order."""
    if 4 * count > below:
        return torch.randperm(below, generator=generator)[:count]
    drawn = torch.unique(torch.randint(below, (count + count // 2 + 64,), generator=generator))
    shuffled: Tensor = drawn[torch.randperm(len(drawn), generator=generator)]
    return shuffled[:count]


TASKS = {
    "copy": Task(copy, BITS + 2, BITS),
    "recall": Task(recall, ITEM_BITS + 2, ITEM_BITS),
    "sort": Task(sort, BITS + 3, BITS),
}
"""Tasks by name."""
