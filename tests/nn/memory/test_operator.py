"""The operator hmn::search finds what the index finds, and PyTorch knows what it needs to know about it."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import CellError, ConfigError
from hmn.nn import EncodedMemory, IndexedMemory, KMIPSAttention, Memory, register_search
from hmn.nn.memory.operator import search, searchable

N, D, B, K = 60, 4, 5, 3
INDEXES = ["exact", "cluster:num_clusters=6,num_probes=6", "hierarchy:num_groups=8,reach=60,rescore=60"]
every_index = pytest.mark.parametrize("index", INDEXES)
pytestmark = pytest.mark.usefixtures("every_group_entered")


def rows(n: int = N, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def best(query: Tensor, keys: Tensor, k: int = K) -> Tensor:
    return (query.double() @ keys.double().T).topk(k, dim=-1).indices


def called(indexed: Any, query: Tensor, target: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
    keys = indexed.memory.snapshot() if keys is None else keys
    cell: Tensor = search(query, keys, target, indexed.search_name, K, False, False)[0]
    return cell


@every_index
def test_it_finds_the_best_cells_and_puts_targets_in(index: str) -> None:
    indexed, query = IndexedMemory(Memory(rows()), index), rows(B, 1)
    wanted = best(query, rows())
    assert torch.equal(called(indexed, query), wanted)
    target = torch.tensor([-1, int(wanted[1, 0]), 7, 8, 9])
    found = called(indexed, query, target)
    for line, own, cell in zip(found, wanted, target.tolist(), strict=True):
        assert line[:-1].tolist() == own[:-1].tolist()
        assert line[-1] == (own[-1] if cell < 0 or cell in own else cell)
    with pytest.raises(CellError, match="target holds cell 60"):
        called(indexed, query, torch.full((B,), N))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("derived", [False, True])
def test_pytorch_checks_its_registration(targeted: bool, derived: bool) -> None:
    indexed = IndexedMemory(Memory(rows(), trainable=derived))
    query = rows(B, 1).requires_grad_(derived)
    target = torch.tensor([-1, 0, 1, 2, 3]) if targeted else None
    given = (query, indexed.memory.keys, target, indexed.search_name, K, True, derived)
    assert set(torch.library.opcheck(search, given).values()) == {"SUCCESS"}
    assert not any(part.requires_grad for part in search(*given)), "cells and reads have no gradient"


@every_index
def test_mapping_over_queries_and_targets_is_one_search_of_all(index: str) -> None:
    indexed, query = IndexedMemory(Memory(rows()), index), torch.stack([rows(B, seed) for seed in (1, 2)])
    keys, name = indexed.memory.snapshot(), indexed.search_name
    target = torch.arange(2 * B).reshape(2, B)

    def each(query: Tensor, target: Tensor | None) -> Any:
        return search(query, keys, target, name, K, False, False)

    for queries, targets in ((0, None), (1, None), (0, 0), (None, 0), (None, 1)):
        moved = query[0] if queries is None else query.movedim(0, queries)
        mapped = None if targets is None else target.movedim(0, targets)
        cell, reads = torch.func.vmap(each, in_dims=(queries, targets))(moved, mapped)
        for place in range(2):
            wanted = each(query[0 if queries is None else place], None if targets is None else target[place])
            assert torch.equal(cell[place], wanted[0]) and torch.equal(reads[place], wanted[1])
    with pytest.raises(ConfigError, match=r"vmap maps over the keys of a memory.*in a loop"):
        torch.func.vmap(lambda keys: search(query[0], keys, None, name, K, False, False))(
            torch.stack([keys, keys])
        )


@every_index
def test_it_searches_the_keys_that_it_is_given(index: str) -> None:
    memory = Memory(rows())
    indexed, query, others = IndexedMemory(memory, index), rows(B, 1), rows(seed=9)
    for keys in (rows(), others, rows(), others.clone()):
        assert torch.equal(called(indexed, query, keys=keys), best(query, keys))
    assert torch.equal(indexed.search(query, K).cell, best(query, rows()))
    assert memory.snapshot().data_ptr() == memory.keys.data_ptr()


def test_the_memorys_own_keys_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    indexed, query = IndexedMemory(Memory(rows(), trainable=True), INDEXES[1]), rows(B, 1)
    called(indexed, query)
    compared: list[int] = []
    compare = IndexedMemory._compare
    monkeypatch.setattr(IndexedMemory, "_compare", lambda self: (compared.append(1), compare(self)))
    called(indexed, query)
    assert compared == []
    with torch.no_grad():
        indexed.memory.keys[7] = 100 * query[0]
    assert int(called(indexed, query)[0, 0]) == 7 and compared == [1]


def test_a_name_belongs_to_one_memory() -> None:
    first, second, query = IndexedMemory(Memory(rows())), IndexedMemory(Memory(rows(seed=9))), rows(B, 1)
    assert first.search_name != second.search_name
    register_search("facts", first)
    assert first.search_name == "facts"
    copied = pickle.loads(pickle.dumps(first))
    assert copied.search_name not in {"facts", second.search_name}
    register_search("facts", second)
    assert first.search_name != "facts" == second.search_name
    for indexed in (first, second, copied):
        assert torch.equal(called(indexed, query), best(query, indexed.memory.keys))
    register_search("facts", None)
    assert torch.equal(called(second, query), best(query, second.memory.keys))
    with pytest.raises(ConfigError, match=r"no memory named 'facts'.*hmn\.nn\.register_search\('facts', "):
        search(query, rows(), None, "facts", K, False, False)


def test_a_named_memory_is_kept_and_any_other_is_not() -> None:
    register_search("kept", IndexedMemory(Memory(rows())))
    passing = IndexedMemory(Memory(rows())).search_name
    gc.collect()
    query = rows(B, 1)
    assert torch.equal(search(query, rows(), None, "kept", K, False, False)[0], best(query, rows()))
    register_search("kept", None)
    with pytest.raises(ConfigError, match="no memory named"):
        search(query, rows(), None, passing, K, False, False)


class Encoder(nn.Module):
    num_cells = N

    def all_keys(self) -> Any:
        yield rows()


@pytest.mark.parametrize(
    ("name", "indexed", "said"),
    [
        ("", None, "name is '', expected a text"),
        (3, None, "name is 3, expected a text"),
        ("unnamed-3", None, "does not begin with unnamed-"),
        ("facts", Memory(rows()), "indexed is Memory, expected hmn.IndexedMemory"),
        ("facts", KMIPSAttention(Memory(rows()), K), "such as attention.indexed"),
        ("facts", IndexedMemory(EncodedMemory(Encoder())), "searches of other memories"),
    ],
)
def test_odd_registrations_are_refused(name: Any, indexed: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        register_search(name, indexed)


def test_keys_without_numbers_are_not_searched() -> None:
    with pytest.raises(ConfigError, match=r"on the meta device.*to_empty.*load_state_dict"):
        searchable(rows().to("meta"))
    keys = rows()
    assert searchable(keys) is keys
