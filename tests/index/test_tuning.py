from __future__ import annotations

import math

import pytest
import torch
from tests.index.reference import listed, recall
from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import make_index
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.exact import ExactIndex
from hmn.index.tuning import recall_at_k, tune
from hmn.results import SearchResult

COUNTED = [
    "cluster:num_clusters=50,codes=none",
    "wta-hash:num_tables=12,num_permutations=2,prefix=6,num_probes=3",
    "pca-tree:leaf_size=32",
    "faiss:IVF64,Flat",
]
EVERY = [*COUNTED, "cluster:num_clusters=8x64,num_probes=1x1,codes=int8", "faiss:HNSW16"]


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(60, 16, generator=generator)
    keys = center[torch.randint(60, (3000,), generator=generator)] + 0.6 * torch.randn(
        3000, 16, generator=generator
    )
    return keys, keys[:300] + 0.3 * torch.randn(300, 16, generator=generator)


@pytest.fixture(scope="module")
def few(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return data[0][:1500], data[1][:60]


def true_recall(index: Index, keys: Tensor, query: Tensor, k: int) -> float:
    return recall(index.search(query, k), query, keys, k)


def made(name: str, keys: Tensor) -> Tunable:
    index = make_index(name)
    index.build(keys)
    assert isinstance(index, Tunable)
    return index


@pytest.mark.parametrize("num_clusters", [50, (8, 64)])
def test_it_finds_the_fewest_probes_that_reach_the_recall(
    data: tuple[Tensor, Tensor], num_clusters: int | tuple[int, ...]
) -> None:
    keys, query = data
    index = ClusterIndex(num_clusters, 1 if isinstance(num_clusters, int) else (1, 1), codes="int8")
    index.build(keys)
    tuned = tune(index, query, 10, target_recall=0.9, margin=0)
    assert tuned.reached
    assert tuned.recall == pytest.approx(true_recall(index, keys, query, 10), abs=1e-9)
    assert tuned.recall >= 0.9
    index.effort = tuned.value - 1
    assert true_recall(index, keys, query, 10) < 0.9


@pytest.mark.parametrize("name", listed(EVERY))
def test_every_structure_reaches_a_recall_and_a_smaller_one_costs_less(
    few: tuple[Tensor, Tensor], name: str
) -> None:
    keys, query = few
    index = made(name, keys)
    setting, most = index.effort_name, index.max_effort
    less, more = (tune(index, query, 10, target_recall=target, margin=0) for target in (0.5, 0.9))
    assert less.reached and more.reached and more.setting == setting
    assert index.effort == more.value
    assert more.recall >= 0.9
    assert more.recall == pytest.approx(true_recall(index, keys, query, 10), abs=1e-9)
    assert 1 <= less.value < more.value < most
    assert name.startswith("faiss:") or less.reads < more.reads < len(keys)
    index.effort = more.value - 1
    assert "HNSW" in name or true_recall(index, keys, query, 10) < 0.9
    index.effort = most
    assert true_recall(index, keys, query, 10) > 0.97


@pytest.mark.parametrize("margin", [0.5, 2])
def test_with_a_margin_it_finds_the_fewest_probes_whose_recall_exceeds_the_target_by_it(
    data: tuple[Tensor, Tensor], margin: float
) -> None:
    keys, query = data
    index = ClusterIndex(50)
    index.build(keys)
    best = (query.double() @ keys.double().T).topk(10, dim=1).indices

    def lowest(probes: int) -> float:
        index.num_probes = probes
        found = (index.search(query, 10).cell.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double()
        share = found.mean(dim=1)
        return float(share.mean() - margin * share.std() / math.sqrt(len(share)))

    tuned = tune(index, query, 10, target_recall=0.9, margin=margin)
    assert tuned.reached and tuned.recall == pytest.approx(true_recall(index, keys, query, 10), abs=1e-9)
    assert lowest(tuned.value - 1) < 0.9 <= lowest(tuned.value)


@pytest.mark.parametrize("name", ["cluster:num_clusters=100", "hierarchy:num_groups=60"])
def test_queries_that_tuning_has_not_seen_reach_the_recall(data: tuple[Tensor, Tensor], name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    keys, index = data[0], made(name, data[0])
    near = keys[torch.randint(3000, (3000,), generator=generator)]
    pool = near + 0.5 * torch.randn(3000, 16, generator=generator)
    held = []
    for _ in range(20):
        order = torch.randperm(3000, generator=generator)
        tune(index, pool[order[:64]], 10, target_recall=0.9)
        held.append(true_recall(index, keys, pool[order[64:]], 10))
    assert sum(recall >= 0.9 for recall in held) >= 17


def test_a_recall_below_the_target_plus_its_margin_is_reached_all_the_same(
    data: tuple[Tensor, Tensor],
) -> None:
    index = made("wta-hash:num_tables=6,num_permutations=2,prefix=6", data[0])
    index.effort = index.max_effort
    most = true_recall(index, data[0], data[1], 10)
    assert most < 0.999  # no effort finds all
    tuned = tune(index, data[1], 10, target_recall=most - 1e-6)
    assert tuned.reached and tuned.recall >= most - 1e-6 and tuned.value < index.max_effort
    assert not tune(index, data[1], 10, target_recall=most + 1e-3).reached


def test_where_codes_lose_the_best_cells_it_does_not_look_further_than_that_pays() -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(64, 32, generator=generator)
    keys = centre.repeat_interleave(64, dim=0) + 0.05 * torch.randn(4096, 32, generator=generator)
    query = centre[torch.randint(64, (256,), generator=generator)]
    index = ClusterIndex(64, rescore=10)
    index.build(keys)
    tuned = tune(index, query, 10, target_recall=0.99)
    index.num_probes = 64
    most = true_recall(index, keys, query, 10)
    assert not tuned.reached and 0.1 < most < 0.99
    assert tuned.value <= 8 and abs(tuned.recall - most) < 0.02


@pytest.mark.parametrize("name", listed(COUNTED))
def test_every_structure_spends_what_it_is_given_or_says_that_it_cannot(
    few: tuple[Tensor, Tensor], name: str
) -> None:
    keys, query = few
    index = made(name, keys)
    for wanted in (0.5, 400, 700, 1e6):
        tuned = tune(index, query, 10, target_reads=wanted)
        reads = float(index.search(query, 10).reads.mean())
        assert tuned.reads == reads
        assert tuned.reached == (abs(reads - wanted) <= wanted / 10) == (1 < wanted < 1e6)


@pytest.mark.parametrize("name", listed(EVERY))
def test_any_cell_ids_work_and_keys_are_not_changed(few: tuple[Tensor, Tensor], name: str) -> None:
    keys, query = few[0].clone(), few[1]
    index = made(name, keys)
    index.remove(torch.arange(0, 1500, 2))
    index.add(torch.arange(5000, 5100), few[0][:200:2])
    index.update(torch.tensor([1, 3]), torch.zeros(2, 16))
    held = {name: part.clone() for name, part in index.state_dict().items()}
    tuned = tune(index, query, 5, target_recall=0.8)
    live, cell = ExactIndex(), index.search(query, 5)
    live.load_state_dict(held)
    assert tuned.reached and tuned.recall == recall_at_k(cell, live.search(query, 5))
    after = index.state_dict()
    assert all(torch.equal(after[name], part) for name, part in held.items() if name.startswith("rows."))


def test_an_index_without_effort_is_refused(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    with pytest.raises(ConfigError, match=r"ExactIndex.*no setting.*expected .*cluster.*make one of these"):
        tune(ExactIndex(keys), query, 10, target_recall=0.9)


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("faiss:Flat", 3000, "'Flat' has neither .* expected a factory .* ask for one such as"),
        ("faiss:NSG8", 200, "'NSG8' has neither"),
        ("faiss:IVF64,Flat", 20, "stands in for faiss 'IVF64,Flat' .* expected enough cells .* tune when"),
    ],
)
def test_factories_of_faiss_without_such_a_setting_are_refused(
    data: tuple[Tensor, Tensor], name: str, cells: int, said: str
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")
    index = made(name, data[0][:cells])
    with pytest.raises(ConfigError, match=said):
        tune(index, data[1], 10, target_recall=0.9)


def test_reads_that_are_unknown_cannot_be_spent(data: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")
    index = made("faiss:HNSW8,ef_search=40", data[0])
    with pytest.raises(ConfigError, match=r"reads of this faiss HNSW8 are unknown.* give target_recall"):
        tune(index, data[1], 10, target_reads=500)
    assert index.ef_search == 40  # type: ignore[attr-defined]


class Uncounted(ClusterIndex):
    """An index that does not count its reads."""

    def search(self, query: Tensor, k: int) -> SearchResult:
        result = super().search(query, k)
        return result._replace(reads=torch.full_like(result.reads, math.nan))


@pytest.mark.parametrize("num_probes", [7, (5, 7)])
def test_an_index_that_cannot_be_tuned_stays_as_it_was(
    data: tuple[Tensor, Tensor], num_probes: int | tuple[int, int]
) -> None:
    index = Uncounted(64 if isinstance(num_probes, int) else (8, 64), num_probes)
    index.build(data[0])
    with pytest.raises(ConfigError, match=r"reads of this cluster are unknown.* give target_recall"):
        tune(index, data[1], 10, target_reads=500)
    assert index.num_probes == num_probes


@pytest.mark.parametrize("failing", range(4))
def test_an_index_stays_as_it_was_where_a_search_fails(
    data: tuple[Tensor, Tensor], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ClusterIndex((8, 64), (5, 7))
    index.build(data[0])
    best, search, turns = ExactIndex(data[0]).search(data[1], 10), index.search, iter(range(9))

    def interrupted(query: Tensor, k: int) -> SearchResult:
        if next(turns) == failing:
            raise KeyboardInterrupt
        return search(query, k)

    monkeypatch.setattr(index, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(index, data[1], 10, target_recall=0.99, best=best)
    assert index.num_probes == (5, 7)


def test_it_spends_the_target_reads(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = ClusterIndex(100, codes=None)
    index.build(keys)
    for wanted in (300, 600, 1200):
        tuned = tune(index, query, 10, target_reads=wanted)
        assert tuned.reached
        assert float(index.search(query, 10).reads.mean()) == pytest.approx(wanted, rel=0.1)


def test_it_spends_as_nearly_as_any_setting_would(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = ClusterIndex(20, codes=None)
    index.build(keys)
    reads = []
    for index.effort in range(1, 21):
        reads.append(float(index.search(query, 10).reads.mean()))
    near, next_one = reads[4], reads[5]
    for share, effort in ((0.0, 5), (0.3, 5), (0.7, 6)):
        assert tune(index, query, 10, target_reads=near + share * (next_one - near)).value == effort
    for factor, reached in ((1.08, True), (1.15, False)):
        assert tune(index, query, 10, target_reads=factor * reads[-1]).reached == reached


def test_a_target_that_cannot_be_reached_is_reported(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = ClusterIndex(10, codes=None)
    index.build(keys)
    few = tune(index, query, 10, target_reads=1)
    assert not few.reached
    assert few.value == 1
    many = tune(index, query, 10, target_reads=1e9)
    assert not many.reached
    assert many.value == 10


def test_recall_counts_equal_scores_whichever_cell_has_them() -> None:
    keys = torch.tensor([[1.0], [1.0], [0.5], [0.1]])
    exact = ExactIndex(keys).search(torch.ones(1, 1), 2)
    other = SearchResult(torch.tensor([[1.0, 0.5]]), torch.tensor([[0, 2]]), exact.reads, exact.cells_scored)
    assert recall_at_k(exact, exact) == 1.0
    assert recall_at_k(other, exact) == 0.5
    none = SearchResult(
        torch.full((1, 2), -torch.inf), torch.full((1, 2), -1), exact.reads, exact.cells_scored
    )
    assert recall_at_k(none, exact) == 0.0
    empty = ExactIndex(torch.zeros(0, 1)).search(torch.ones(3, 1), 2)
    assert recall_at_k(empty, empty) == 1.0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "neither of .*expected exactly one"),
        ({"target_recall": 0.9, "target_reads": 5.0}, "both of .*expected exactly one"),
        ({"target_recall": 0.0}, "above 0"),
        ({"target_recall": 1.1}, "at most 1"),
        ({"target_reads": 0.0}, "more than 0"),
        ({"target_recall": "0.5"}, "target_recall is '0.5', expected a number"),
        ({"target_reads": True}, "target_reads is True, expected a number"),
        ({"target_recall": 0.9, "margin": -1.0}, "margin is -1.0, expected a number of standard errors"),
        ({"target_recall": 0.9, "margin": math.inf}, "margin is inf"),
        ({"target_recall": 0.9, "margin": "2"}, "margin is '2', expected a number"),
    ],
)
def test_bad_targets_are_refused(
    data: tuple[Tensor, Tensor], targets: dict[str, float], message: str
) -> None:
    index = ClusterIndex(10)
    index.build(data[0])
    with pytest.raises(ConfigError, match=message):
        tune(index, data[1], 10, **targets)
    with pytest.raises(ConfigError, match="no queries"):
        tune(index, data[1][:0], 10, target_recall=0.5)


def test_of_an_index_that_wants_the_best_cell_this_one_counts(data: tuple[Tensor, Tensor]) -> None:
    keys, query = data
    index = made("hierarchy:num_groups=100,wanted=1", keys)
    tuned = tune(index, query, 10, target_recall=0.95)
    found = index.search(query, 10)
    assert tuned.reached and tuned.recall == pytest.approx(recall(found, query, keys, 1), abs=1e-9)
    index.wanted = None  # type: ignore[attr-defined]
    every = tune(index, query, 10, target_recall=0.95)
    assert every.recall == pytest.approx(true_recall(index, keys, query, 10), abs=1e-9)
    assert tuned.reads < every.reads


def test_the_right_results_may_be_given(data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    keys, query = data
    index = made("hierarchy:num_groups=100", keys)
    index.reach = 1000  # type: ignore[attr-defined]
    best = index.search(query, 1)
    monkeypatch.setattr(ExactIndex, "search", None)
    tuned = tune(index, query, 1, target_recall=0.97, best=best)
    assert tuned.reached and tuned.value < 1000
    assert float((index.search(query, 1).cell == best.cell).double().mean()) == pytest.approx(tuned.recall)
