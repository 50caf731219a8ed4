from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.paper.made import PRESET, made_keys
from torch.nn import functional as F

from hmn.facts.table import FactTable
from hmn.nn.attention.hard import HardAttention
from hmn.nn.memory.stored import Memory
from hmn.paper.cells.fixed import one_per_fact
from hmn.paper.grid import KMIPS, OUR_CLUSTERS, ROWS, TEXT, TWO_LEVELS, Row
from hmn.paper.network.attention.build import indexed_memory, make_attention
from hmn.paper.network.attention.protocol import Attention
from hmn.paper.network.attention.search_budget import target_reads
from hmn.paper.network.question_words import Asked, Vocabulary

APPROXIMATE = [row for row in ROWS if not row.exact and row.reader == KMIPS and row.cells != TEXT]


@pytest.fixture(scope="module")
def large() -> FactTable:
    return FactTable.from_triples(
        (f"s{number % 900}", f"r{number % 7}", f"o{number % 11}") for number in range(2000)
    )


def attention_of(row: Row, facts: FactTable) -> tuple[Attention, Memory]:
    memory = Memory(made_keys(facts))
    return make_attention(row, PRESET, memory, facts, one_per_fact(facts), 0), memory


def queries(memory: Memory, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = torch.randint(len(memory), (count,), generator=generator)
    return memory.keys[near] + 0.2 * torch.randn(count, memory.keys.shape[1], generator=generator)


def asked(facts: FactTable, targets: list[int]) -> Asked:
    texts = ["who"] * len(targets)
    return Asked.of(texts, targets, Vocabulary(texts), facts, one_per_fact(facts))


@pytest.mark.parametrize("k", [1, 3, 40])
def test_softmax_size_is_the_union_of_all_best_cells_and_the_targets(k: int, small_facts: FactTable) -> None:
    attention, memory = attention_of(Row("x", "table1", "kmips", k=k), small_facts)
    query, targets = queries(memory, 12), list(range(0, 120, 10))
    loss, size = attention.loss(query, asked(small_facts, targets), np.arange(12), torch.Generator())
    score = (query @ memory.keys.T).numpy()
    union = set(targets)
    for row in score:
        union |= set(np.argsort(-row)[:k].tolist())
    assert size == len(union)
    order = sorted(union)
    wanted = torch.tensor([order.index(target) for target in targets])
    assert torch.allclose(loss, F.cross_entropy(query @ memory.keys[order].T, wanted), atol=1e-5)


def test_full_softmax_normalises_over_all_cells(small_facts: FactTable) -> None:
    attention, memory = attention_of(Row("x", "table1", "softmax"), small_facts)
    query, targets = queries(memory, 5), [4, 3, 2, 1, 350]
    loss, size = attention.loss(query, asked(small_facts, targets), np.arange(5), torch.Generator())
    assert size == len(small_facts)
    assert torch.allclose(loss, F.cross_entropy(query @ memory.keys.T, torch.tensor(targets)), atol=1e-5)


def test_other_objects_of_the_same_subject_and_relation_are_wrong() -> None:
    facts = FactTable.from_triples([("a", "r", "b"), ("a", "r", "c"), ("d", "r", "e")])
    attention, memory = attention_of(Row("x", "table1", "softmax"), facts)
    query = torch.zeros(1, memory.keys.shape[1])
    loss, _ = attention.loss(query, asked(facts, [1]), np.arange(1), torch.Generator())
    assert float(loss) == pytest.approx(np.log(3))


def test_reinforce_rewards_the_right_cell_alone(
    small_facts: FactTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.tensor([[9], [5], [9]])
    monkeypatch.setattr(HardAttention, "_draw", lambda *_: drawn)
    attention, memory = attention_of(Row("x", "baselines", "hard"), small_facts)
    query = queries(memory, 3).requires_grad_()
    loss, size = attention.loss(query, asked(small_facts, [9, 5, 300]), np.arange(3), torch.Generator())
    assert size == len(small_facts)
    share = torch.log_softmax(query.detach() @ memory.keys.T, dim=1).gather(1, drawn).squeeze(1)
    assert float(loss.detach()) == pytest.approx(-float(share[:2].sum()) / 3, rel=1e-5)
    assert float(share.max()) < -0.5, "rewarding another one would tell"


@pytest.mark.parametrize("row", APPROXIMATE, ids=lambda row: row.name)
def test_every_approximate_search_is_brought_to_the_same_reads(row: Row, large: FactTable) -> None:
    attention, memory = attention_of(row, large)
    wanted = target_reads(PRESET, len(memory), row.speed_up)
    assert wanted == {0: 250, 10: 200, 5.4: 370}[row.speed_up]
    tuned = attention.tune(queries(memory, 96))
    assert tuned["reached"], tuned
    found = attention.search(queries(memory, 96, seed=1), ["who"] * 96, 10)
    assert float(found.reads.mean()) == pytest.approx(wanted, rel=0.15)
    _, size = attention.loss(
        queries(memory, 4), asked(large, list(range(4))), np.arange(4), torch.Generator().manual_seed(0)
    )
    assert 4 < size < len(memory)
    if row.k:
        assert size <= 4 * (row.k + 1)


def test_two_levels_are_two(large: FactTable) -> None:
    attention, _ = attention_of(replace(ROWS[0], reader="kmips", index=TWO_LEVELS), large)
    assert attention.reader.index.stats()["num_clusters"] == "9x80"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cells", "clusters"), [(500, "7"), (17_000, "265")])
def test_the_librarys_own_clusters_are_one_per_64_cells(cells: int, clusters: str) -> None:
    memory = Memory(torch.randn(cells, 2, generator=torch.Generator().manual_seed(0)))
    index = indexed_memory(OUR_CLUSTERS, PRESET, memory, seed=0).index
    assert index.stats()["num_clusters"] == clusters


@pytest.mark.parametrize("name", ["full softmax", "exact 10-MIPS", "keyword filter", "REINFORCE"])
def test_the_path_of_one_right_cell_gives_the_numbers_of_the_general_one(
    name: str, small_facts: FactTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in ROWS if row.name == name)
    ones = asked(small_facts, list(range(0, 80, 10)))
    found = []
    for general in (False, True):
        if general:
            for module in ("loss", "reinforce"):
                path = f"hmn.paper.network.attention.{module}.single_cells"
                monkeypatch.setattr(path, lambda *_: None)
        attention, memory = attention_of(row, small_facts)
        query = queries(memory, 8).requires_grad_()
        loss, size = attention.loss(query, ones, np.arange(8), torch.Generator().manual_seed(3))
        loss.backward()  # type: ignore[no-untyped-call]
        assert query.grad is not None
        found.append((loss.detach(), size, query.grad))
    assert found[0][1] == found[1][1]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert torch.allclose(found[0][2], found[1][2], atol=1e-6)


def test_the_keyword_filter_looks_a_training_question_up_once(
    small_facts: FactTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in ROWS if row.name == "keyword filter")
    attention, memory = attention_of(row, small_facts)
    query, ones = queries(memory, 4), asked(small_facts, [1, 2, 3, 4])
    first = attention.loss(query, ones, np.arange(4), torch.Generator())
    monkeypatch.setattr(
        "hmn.paper.network.attention.keyword_filter.KeywordFilter.facts_for", lambda *_: pytest.fail("again")
    )
    again = attention.loss(query, ones, np.arange(4), torch.Generator())
    assert (float(again[0]), again[1]) == (float(first[0]), first[1])
