"""Candidates are what the strategies say, and their probabilities make any sum over them unbiased."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.candidates.fake_clusters import CELLS, CLUSTERS, FEATURES, QUERIES, FakeClusters, made
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.index.protocol import Clustered
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.nn.candidates.draw import candidates
from hmn.nn.candidates.strategy import Candidates, Strategy

quick = settings(max_examples=40, deadline=None)


def drawn(strategy: Strategy, index: FakeClusters, query: Tensor, target: list[int], seed: int) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    return candidates(strategy, index, query, torch.tensor(target, dtype=torch.int64), generator=generator)


def best(score: Tensor, k: int) -> list[set[int]]:
    return [set(row.tolist()) for row in score.argsort(dim=1, descending=True)[:, :k]]


NO_TARGET: list[int] = []


@quick
@given(k=st.integers(1, 9), seed=st.integers(0, 99))
def test_k_mips_is_the_union_of_every_querys_best_cells_and_the_targets(k: int, seed: int) -> None:
    index, keys, query = made(seed)
    found = drawn(Strategy(best_cells=k), index, query, [5, 5, 59], seed)
    assert set(found.cell.tolist()) == {5, 59}.union(*best(query @ keys.T, k))
    assert found.cell.tolist() == sorted(set(found.cell.tolist()))
    assert found.probability.tolist() == [1.0] * len(found.cell)


@quick
@given(k=st.integers(1, 10), seed=st.integers(0, 99))
def test_top_k_is_all_cells_of_every_querys_best_clusters(k: int, seed: int) -> None:
    index, _, query = made(seed)
    found = drawn(Strategy(top_clusters=k), index, query, NO_TARGET, seed)
    clusters = set().union(*best(query @ index.centroids().T, k))
    assert found.cell.tolist() == [cell for cell in range(CELLS) if int(index.owner[cell]) in clusters]
    assert found.probability.tolist() == [1.0] * len(found.cell)


@quick
@given(top=st.integers(0, 5), count=st.integers(1, 9), seed=st.integers(0, 99))
def test_sample_k_draws_so_many_whole_clusters_besides_the_best(top: int, count: int, seed: int) -> None:
    index, _, query = made(seed)
    query = query[:1]
    found = drawn(Strategy(top_clusters=top, sample_clusters=count), index, query, NO_TARGET, seed)
    every = set(range(CLUSTERS))
    best_clusters = best(query @ index.centroids().T, top)[0]
    populated = set(index.owner.tolist())
    clusters = set(index.owner[found.cell].tolist())
    assert clusters >= best_clusters & populated
    assert len(clusters) <= min(top + count, CLUSTERS)
    assert len(clusters | (every - populated)) >= min(top + count, CLUSTERS)
    assert found.cell.tolist() == [cell for cell in range(CELLS) if int(index.owner[cell]) in clusters]
    certain = torch.tensor([int(cluster) in best_clusters for cluster in index.owner[found.cell]])
    certain |= torch.tensor(top + count >= CLUSTERS)  # nothing is left to chance
    assert bool((found.probability[certain] == 1).all())
    assert bool(((found.probability > 0) & (found.probability <= 1)).all())


@pytest.mark.slow
def test_sample_k_draws_one_after_the_other_in_proportion_to_exp_of_the_score() -> None:
    """The first cluster has probability p_i, the second p_j / (1 - p_i): counted over many draws."""
    index, _, query = made(2, clusters=4)
    query, temperature, draws = query[:1], 0.7, 2000
    p = torch.softmax((query @ index.centroids().T)[0] / temperature, dim=0).tolist()
    pair = {
        frozenset({i, j}): p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        for i in range(4)
        for j in range(i)
    }
    strategy = Strategy(sample_clusters=2, temperature=temperature)
    generator = torch.Generator().manual_seed(0)
    count = dict.fromkeys(pair, 0)
    for _ in range(draws):
        found = candidates(strategy, index, query, torch.empty(0, dtype=torch.int64), generator=generator)
        count[frozenset(index.owner[found.cell].tolist())] += 1
    for one, probability in pair.items():
        spread = math.sqrt(probability * (1 - probability) / draws)
        assert abs(count[one] / draws - probability) < 4 * spread, one


@quick
@given(size=st.integers(1, 80), seed=st.integers(0, 99))
def test_rand_block_is_one_block_of_neighbouring_cells(size: int, seed: int) -> None:
    index, _, query = made()
    found = drawn(Strategy(rand_block=size), index, query, NO_TARGET, seed)
    first = int(found.cell[0])
    assert first % size == 0
    assert found.cell.tolist() == list(range(first, min(first + size, CELLS)))
    blocks = math.ceil(CELLS / size)
    torch.testing.assert_close(found.probability, torch.full((len(found.cell),), 1 / blocks))


def test_every_block_is_drawn_about_as_often() -> None:
    index, _, query = made()
    firsts = [int(drawn(Strategy(rand_block=20), index, query, NO_TARGET, s).cell[0]) for s in range(300)]
    assert {firsts.count(first) > 70 for first in (0, 20, 40)} == {True}


MIXED = "top-k:1+sample-k:2"
ALL = "k-mips:3+top-k:1+sample-k:1+rand-block:16+temperature:0.8"


@pytest.mark.parametrize("text", ["sample-k:2", MIXED, "rand-block:16", "sample-k:1+rand-block:16", ALL])
def test_the_corrected_normaliser_is_unbiased_and_the_papers_is_not(text: str) -> None:
    """Each query's normaliser from the batch union, over many draws, against the sum over all cells."""
    index, keys, query = made(1)
    mass = (query @ keys.T).double().exp()  # (B, N)
    true = mass.sum(dim=1)
    strategy, generator = Strategy.parse(text), torch.Generator().manual_seed(11)
    draws = 800
    corrected, plain = torch.empty(draws, QUERIES).double(), torch.empty(draws, QUERIES).double()
    weight = torch.zeros(draws, CELLS).double()
    for draw in range(draws):
        found = candidates(strategy, index, query, torch.tensor([7]), generator=generator)
        weight[draw, found.cell] = 1 / found.probability.double()
        corrected[draw] = mass @ weight[draw]
        plain[draw] = mass[:, found.cell].sum(dim=1)
    error = corrected.std(dim=0) / math.sqrt(draws)
    relative = (plain.mean(dim=0) / true - 1).tolist()
    print(text, "corrected", (corrected.mean(dim=0) / true).tolist(), "paper's bias", relative)
    assert bool(((corrected.mean(dim=0) - true).abs() < 3 * error).all())
    assert bool((error < 0.08 * true).all())  # the test can tell
    assert max(relative) < -0.02 and bool((true - plain.mean(dim=0) > 3 * error).all())
    # stronger: the weight of every single cell has mean 1 (60 cells: 4 standard errors)
    spread = weight.std(dim=0) / math.sqrt(draws)
    assert bool(((weight.mean(dim=0) - 1).abs() <= 4 * spread).all())


def test_one_threshold_for_all_queries_of_the_union_would_be_biased() -> None:
    """Why the threshold depends on whether the query drew the cluster: 3 clusters, each query draws one."""
    logit = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]).double()
    generator, draws = torch.Generator().manual_seed(0), 20000
    noise = torch.empty(draws, 2, 3).double().exponential_(generator=generator)
    key = logit - noise.log()
    first, second = key.topk(2, dim=2).values.split(1, dim=2)
    mine = key >= first
    union = mine.any(dim=1)
    mean = []
    for threshold in (torch.where(mine, second, first), second):
        probability = -torch.expm1(-(logit - threshold).exp().sum(dim=1))
        weight = union / probability
        mean.append((weight.mean(dim=0), weight.std(dim=0) / math.sqrt(draws)))
    assert bool(((mean[0][0] - 1).abs() < 4 * mean[0][1]).all())
    assert bool((1 - mean[1][0] > 10 * mean[1][1]).all())
    print("weight with one threshold", mean[1][0].tolist())


def test_what_is_certain_counts_as_certain_however_else_it_was_drawn() -> None:
    index, keys, query = made(3)
    strategy = Strategy(best_cells=2, top_clusters=1, sample_clusters=2, rand_block=30)
    certain = {4, 41}.union(*best(query @ keys.T, 2))
    clusters = set().union(*best(query @ index.centroids().T, 1))
    certain |= {cell for cell in range(CELLS) if int(index.owner[cell]) in clusters}
    for seed in range(30):
        found = drawn(strategy, index, query, [4, 41], seed)
        by_chance = found.cell[found.probability < 1].tolist()
        assert certain <= set(found.cell.tolist()) - set(by_chance)
        assert min(found.probability.tolist()) >= 0.5  # two blocks


def test_the_clusters_of_a_cluster_index() -> None:
    """Each cell in one cluster, as the protocol promises, and the estimate unbiased over them."""
    _, keys, query = made(4)
    index = make_index("cluster:num_clusters=6,codes=none")
    assert isinstance(index, Clustered)
    index.build(keys)
    cell, length = index.cells_in(torch.arange(6))
    assert sorted(cell.tolist()) == list(range(CELLS)) and int(length.sum()) == CELLS
    assert index.cells_in(torch.empty(0, dtype=torch.int64))[0].tolist() == []
    assert index.centroids().shape == (6, FEATURES)
    strategy, generator = Strategy.parse("top-k:1+sample-k:1+rand-block:20"), torch.Generator().manual_seed(0)
    weight = torch.zeros(400, CELLS)
    for row in weight:
        found = candidates(strategy, index, query, torch.tensor([7]), generator=generator)
        row[found.cell] = 1 / found.probability
    spread = weight.std(dim=0) / math.sqrt(len(weight))
    assert bool(((weight.mean(dim=0) - 1).abs() <= 4 * spread + 1e-6).all())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_every_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    _, keys, query = made()
    index = make_index("cluster:num_clusters=6")
    index.build(keys.to(device))
    generator = torch.Generator().manual_seed(0)
    found = candidates(Strategy.parse(ALL), index, query.to(device), torch.tensor([3]), generator=generator)
    assert found.cell.device.type == found.probability.device.type == device
    assert 3 in found.cell.tolist() and bool((found.probability > 0).all())


def test_the_same_seed_draws_the_same() -> None:
    index, _, query = made()
    one, again, other = (drawn(Strategy.parse(ALL), index, query, [1], seed) for seed in (5, 5, 6))
    assert torch.equal(one.cell, again.cell) and torch.equal(one.probability, again.probability)
    assert one.cell.tolist() != other.cell.tolist()


@pytest.mark.parametrize("text", [ALL, "k-mips:4", MIXED, "rand-block:8"])
def test_empty_batches_and_empty_memories(text: str) -> None:
    index, _, query = made()
    strategy = Strategy.parse(text)
    cell = drawn(strategy, index, query[:0], [3], 0).cell
    assert 3 in cell.tolist() and ("rand-block" in text or cell.tolist() == [3])
    nothing, _, _ = made(cells=0)
    assert drawn(strategy, nothing, query, NO_TARGET, 0).cell.tolist() == []


def test_one_block_and_one_cluster_leave_nothing_to_chance() -> None:
    index, _, query = made(clusters=1)
    for text in ("sample-k:3", "rand-block:60", "sample-k:1+rand-block:7"):
        found = drawn(Strategy.parse(text), index, query, NO_TARGET, 0)
        assert found.cell.tolist() == list(range(CELLS)) and found.probability.tolist() == [1.0] * CELLS


def test_gradients_do_not_reach_the_candidates() -> None:
    index, _, query = made()
    found = drawn(Strategy.parse(ALL), index, query.requires_grad_(), NO_TARGET, 0)
    assert not found.probability.requires_grad


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("top-k:8+sample-k:4+rand-block:256", Strategy(8, 4, 256)),
        ("k-mips:32", Strategy(best_cells=32)),
        ("k-mips", Strategy(best_cells=10)),
        (" sample-k:4 + temperature:0.5", Strategy(sample_clusters=4, temperature=0.5)),
    ],
)
def test_text_is_read_and_written(text: str, wanted: Strategy) -> None:
    assert Strategy.parse(text, k=10) == wanted == Strategy.parse(str(wanted))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "best-k:3",
            "unknown part 'best-k', expected one of k-mips, top-k, sample-k, rand-block, temp",
        ),
        ("", "unknown part ''"),
        ("top-k:3+top-k:4", "top-k is given twice"),
        ("top-k", r"top-k has the number '', expected one as in top-k:8"),
        ("k-mips", "k-mips has the number ''"),
        ("top-k:x", "the number 'x'"),
        ("top-k:-1", r"top_clusters \(top-k\) is -1, expected a whole number"),
        ("top-k:1+temperature:0", "temperature is 0.0, expected a finite number above 0"),
        ("top-k:1+temperature:nan", "temperature is nan"),
        ("temperature:2", "names no candidates"),
        ("top-k:0", "names no candidates"),
    ],
)
def test_bad_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Strategy.parse(text)


def test_clusters_are_asked_only_of_an_index_that_has_them() -> None:
    index, keys, query = made()
    assert isinstance(index, Clustered) and not isinstance(ExactIndex(), Clustered)
    for text in ("top-k:1", "sample-k:1"):
        with pytest.raises(
            ConfigError, match=r"needs an index of clusters, got ExactIndex: use index='cluster'"
        ):
            candidates(
                Strategy.parse(text),
                ExactIndex(keys),
                query,
                torch.empty(0, dtype=torch.int64),
                generator=torch.Generator(),
            )


def test_queries_and_targets_that_do_not_fit_are_refused() -> None:
    index, _, query = made()
    with pytest.raises(ShapeError, match="query has 3 features but the memory has 4"):
        drawn(Strategy(top_clusters=1), index, query[:, :3], NO_TARGET, 0)
    with pytest.raises(ShapeError, match="target are"):
        candidates(Strategy(1), index, query, torch.zeros(3), generator=torch.Generator())
