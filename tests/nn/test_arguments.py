"""What users hand over works as tensor, NumPy array or lists, or is refused by name, at every entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hmn.errors import ConfigError, ShapeError
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.loss import marginal_nll, sampled_nll
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.memory.stored import Memory
from hmn.nn.reader import KMIPSReader, SoftmaxReader

KEYS = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
QUERY = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
CELLS, SCORE, RIGHT = torch.tensor([1, 2, 3]), torch.ones(3, 5), torch.eye(3, 5).bool()


def memory() -> Memory:
    return Memory(KEYS.clone(), KEYS.clone(), trainable=True)


def indexed() -> IndexedMemory[Memory]:
    return IndexedMemory(memory(), "cluster:num_clusters=3")


def layer(**settings: Any) -> KMIPSAttention:
    return KMIPSAttention(indexed(), 3, **settings)


def read_then(change: Callable[[KMIPSAttention], object]) -> None:
    reading = layer()
    reading(QUERY)
    change(reading)
    reading.refresh()


def rewarded(reward: Any) -> torch.Tensor:
    attention = HardAttention(memory())
    return attention.loss(attention(QUERY), reward)


ENTRIES: dict[str, tuple[torch.Tensor, Callable[[Any], object]]] = {
    "keys": (KEYS, Memory),
    "values": (KEYS, lambda given: Memory(KEYS, given)),
    "keys_of": (CELLS, lambda given: memory().keys_of(given)),
    "values_of": (CELLS, lambda given: memory().values_of(given)),
    "kmips": (QUERY, lambda given: layer()(given)),
    "kmips target": (CELLS, lambda given: layer()(QUERY, given)),
    "softmax": (QUERY, lambda given: SoftmaxAttention(memory())(given)),
    "softmax target": (CELLS, lambda given: SoftmaxAttention(memory())(QUERY, given)),
    "hard": (QUERY, lambda given: HardAttention(memory())(given)),
    "reward": (QUERY[:, 0], rewarded),
    "candidates": (QUERY, lambda given: layer(strategy="k-mips").candidates(given)),
    "candidates target": (CELLS, lambda given: layer(strategy="k-mips").candidates(QUERY, given)),
    "refresh": (CELLS, lambda given: read_then(lambda reading: reading.refresh(given))),
    "mark_read": (CELLS, lambda given: read_then(lambda reading: reading.indexed.mark_read(given))),
    "search": (QUERY, lambda given: indexed().search(given, 3)),
    "reader": (QUERY, lambda given: KMIPSReader(indexed(), 3).read(given, 3)),
    "reader target": (
        CELLS,
        lambda given: KMIPSReader(indexed(), 3).candidates(QUERY, given, torch.Generator()),
    ),
    "reader query": (
        QUERY,
        lambda given: KMIPSReader(indexed(), 3).candidates(given, CELLS, torch.Generator()),
    ),
    "full reader": (QUERY, lambda given: SoftmaxReader(indexed()).read(given, 3)),
    "score": (SCORE, lambda given: marginal_nll(given, RIGHT)),
    "right": (RIGHT, lambda given: marginal_nll(SCORE, given)),
    "ignored": (RIGHT, lambda given: marginal_nll(SCORE, RIGHT, given)),
    "probability": (SCORE[0], lambda given: sampled_nll(SCORE, RIGHT, given)),
}
OPTIONAL = {"values", "kmips target", "softmax target", "candidates target", "refresh", "ignored"}
ODD: dict[str, Callable[[torch.Tensor], Any]] = {
    "sparse": lambda good: good.to_sparse(),
    "meta": lambda good: good.to("meta"),
    "complex": lambda good: good.to(torch.complex64),
    "nested": lambda good: torch.nested.nested_tensor([good, good[:1]]),
    "text": lambda _: "abc",
    "number": lambda _: 3,
    "none": lambda _: None,
    "three dimensions": lambda good: good.reshape(1, 1, -1, 1),
    "objects": lambda _: np.array([object()] * 3),
    "texts": lambda _: np.array(["a", "b", "c"]),
    "ragged": lambda _: [[1.0, 2.0], [3.0]],
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_arrays_and_lists_are_taken(entry: str) -> None:
    good, call = ENTRIES[entry]
    for given in (good, good.numpy(), good.tolist()):
        call(given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("odd", ODD)
def test_other_things_are_refused_by_name(odd: str) -> None:
    for entry, (good, call) in ENTRIES.items():
        shaped = entry in {"keys_of", "values_of", "mark_read", "refresh", "kmips", "softmax", "hard"}
        if (odd == "none" and entry in OPTIONAL) or (odd == "three dimensions" and shaped):
            continue
        if odd == "meta" and entry == "keys":
            continue  # their numbers are loaded later
        with pytest.raises((ShapeError, ConfigError)):
            call(ODD[odd](good))
            pytest.fail(f"{entry} took {odd}")


@pytest.mark.parametrize("k", [1.5, "3", None, True, 0, -1, 2**31, 2**63, torch.tensor(2.5)])
def test_numbers_of_cells_are_whole(k: Any) -> None:
    reads: list[Callable[[], object]] = [
        lambda: indexed().search(QUERY, k),
        lambda: KMIPSReader(indexed(), 3).read(QUERY, k),
        lambda: SoftmaxReader(indexed()).read(QUERY, k),
        lambda: KMIPSReader(indexed(), k).read(QUERY, 3),
        lambda: KMIPSAttention(memory(), k)(QUERY),
    ]
    for read in reads:
        with pytest.raises(ConfigError, match=r"k is |results"):
            read()


@pytest.mark.parametrize("given", ["x", 3, KEYS, KEYS.numpy(), Memory, [1]])
def test_parts_of_other_kinds_are_refused(given: Any) -> None:
    makes: list[Callable[[Any], object]] = [
        IndexedMemory,
        EncodedMemory,
        SoftmaxAttention,
        SoftmaxReader,
        lambda part: IndexedMemory(memory(), part),
        lambda part: KMIPSAttention(part, 3),
        lambda part: KMIPSReader(part, 3),
        lambda part: KMIPSReader(indexed(), 3, part),
        lambda part: setattr(indexed(), "memory", part),
    ]
    for make in makes:
        with pytest.raises(ConfigError):
            make(given)
