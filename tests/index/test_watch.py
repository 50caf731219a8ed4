"""Watched searches: what is shown is what a search of the kernels does, and the picture holds together."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.watch import watching

N = 3_000
TIERED = [
    "cluster",
    "cluster:num_clusters=8x64,num_probes=3x9",
    "hierarchy:num_groups=60,reach=40",
    "cluster:codes=none",
]
FLAT = ["exact", "pca-tree", "wta-hash"]


def built(text: str, keys: torch.Tensor) -> Index:
    index = make_index(text)
    index.build(keys)
    return index


def keys_and_query() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, 24, generator=generator), torch.randn(1, 24, generator=generator)


@pytest.mark.parametrize("text", [*TIERED, *FLAT])
def test_a_watched_search_finds_and_reads_what_any_search_does(text: str) -> None:
    keys, query = keys_and_query()
    index = built(text, keys)
    usual = index.search(query, 10)
    with watching() as searches:
        result = index.search(query, 10)
    assert result.cell.tolist() == usual.cell.tolist()
    (seen,) = searches
    assert (seen.queries, seen.cells) == (1, N)
    assert seen.reads == pytest.approx(float(usual.reads), rel=1e-6)
    assert seen.scored == int(usual.cells_scored)
    assert len(seen.places) == 10
    assert bool(seen.tiers) == (text in TIERED)


@pytest.mark.parametrize("text", TIERED)
def test_what_was_found_lies_in_what_was_entered_from_tier_to_tier(text: str) -> None:
    keys, query = keys_and_query()
    index = built(text, keys)
    with watching() as searches:
        index.search(query, 10)
    (seen,) = searches
    inside = torch.ones(N, dtype=torch.bool)
    entered_before = seen.tiers[0].groups
    for number, tier in enumerate(seen.tiers):
        now = torch.zeros(N, dtype=torch.bool)
        for begin, count in tier.entered.tolist():
            now[begin : begin + count] = True
        assert not (now & ~inside).any()  # a group lies in one that was entered
        assert len(tier.entered) <= tier.scored <= tier.groups
        assert tier.scored == tier.groups if number == 0 else entered_before <= tier.scored
        assert int(now.sum()) == int(tier.entered[:, 1].sum())  # groups do not overlap
        inside, entered_before = now, len(tier.entered)
    assert bool(inside[seen.places].all())
    assert int(inside.sum()) < N
    if "hierarchy" in text:  # which reads the first panels only of most groups that it enters
        assert seen.scored <= seen.coded < int(inside.sum())
        return
    assert seen.coded == (0 if "codes=none" in text else int(inside.sum()))
    if not seen.coded:
        assert seen.scored == int(inside.sum())


def test_places_follow_a_memory_that_changes() -> None:
    keys, query = keys_and_query()
    for text in ("exact", "cluster"):
        index = built(text, keys)
        best = index.search(query, 1).cell[0]
        index.remove(torch.arange(100)[torch.arange(100) != int(best)])
        with watching() as searches:
            result = index.search(query, N)
        (seen,) = searches
        assert seen.cells == len(index) == len(seen.places)
        assert sorted(seen.places.tolist()) == list(range(len(index)))  # every cell once, without gaps
        assert int(result.cell[0, 0]) == int(best)


def test_several_queries_are_shown_together() -> None:
    keys, _ = keys_and_query()
    index = built("cluster", keys)
    with watching() as searches:
        index.search(keys[:5], 3)
        index.search(keys[7:8], 3)
    assert [seen.queries for seen in searches] == [5, 1]
    assert len(searches[0].places) == 15
    assert searches[0].tiers[0].scored == 5 * searches[0].tiers[0].groups


def test_other_threads_are_not_watched() -> None:
    keys, query = keys_and_query()
    index = built("cluster", keys)
    with watching() as searches:
        other = Thread(target=index.search, args=(query, 3))
        other.start()
        other.join()
    index.search(query, 3)
    assert searches == []
