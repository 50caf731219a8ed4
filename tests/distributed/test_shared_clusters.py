"""Clusters that the indexes of 2 and 4 ranks share give what one index of all cells gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distributed.clusters import MANY, SHARED
from tests.distributed.processes import QUERIES, D, K, gloo, joined, near, queries, tensors
from torch import Tensor

from hmn.index import ClusterIndex
from hmn.index.clustering.kmeans import assign, unit_rows

pytestmark = [pytest.mark.slow, gloo]
Got = list[dict[str, Any]]


def all_alike(got: Got, *names: str) -> Tensor:
    """A tensor that is the same on all ranks."""
    parts: list[Any] = got
    for name in names:
        parts = [part[name] for part in parts]
    assert all(torch.equal(part, parts[0]) for part in parts)
    one: Tensor = parts[0]
    return one


def test_a_rank_that_has_the_longest_keys_scores_as_many_in_full_as_one_index(got: Got) -> None:
    cell = joined(got, "clusters", "long", "found", "cell")
    found, wanted = (joined(got, "clusters", "long", which, "score") for which in ("found", "wanted"))
    assert bool((cell >= 0).all()) and bool((found >= wanted - 1e-4).all())


@pytest.mark.parametrize("name", [*SHARED, "moved", "made again"])
def test_they_find_and_read_what_one_index_does(got: Got, name: str) -> None:
    all_alike(got, "clusters", name, "centroid")
    for part in ("cell", "score", "reads"):
        near(joined(got, "clusters", name, "found", part), joined(got, "clusters", name, "wanted", part))
    scored = joined(got, "clusters", name, "found", "cells_scored")
    assert torch.equal(scored, joined(got, "clusters", name, "wanted", "cells_scored"))
    assert bool((scored < 203).all())


def test_usual_settings_score_a_few_more_cells_in_full_and_find_as_much(got: Got) -> None:
    found, wanted = (
        [joined(got, "clusters", "usual", which, part) for part in ("cell", "score", "reads")]
        for which in ("found", "wanted")
    )
    assert bool((found[1] >= wanted[1] - 1e-5).float().mean() > 0.95)
    more = found[2] - wanted[2]
    assert bool((more > -1e-3).all()) and bool((more <= 10 * len(got)).all())


def test_queries_whose_clusters_hold_too_few_cells_look_further(got: Got) -> None:
    for name in ("filled", "not filled"):
        cell = joined(got, "clusters", name, "found", "cell")
        assert torch.equal(cell, joined(got, "clusters", name, "wanted", "cell"))
        unused = int((cell < 0).sum())
        assert unused == 0 if name == "filled" else 0 < unused < cell.numel()
    assert cell.shape == (sum(QUERIES), MANY)


def test_cells_are_counted_over_all_ranks_when_they_move(got: Got) -> None:
    own = [part["clusters"]["moved"]["counted"]["own"] for part in got]
    assert torch.equal(all_alike(got, "clusters", "moved", "counted", "all"), torch.stack(own).sum(dim=0))
    assert int(sum(part.sum() for part in own)) == 203


def test_they_are_made_again_where_a_rank_has_filed_all_its_cells_again(got: Got) -> None:
    before, after = (all_alike(got, "clusters", "made again", name) for name in ("before", "centroid"))
    assert not torch.equal(before, after)


def test_they_are_kept_where_every_rank_loads_them_and_made_again_where_one_does(got: Got) -> None:
    before, every, first = (
        all_alike(got, "clusters", "states", name) for name in ("before", "every", "first")
    )
    assert torch.equal(every, before) and not torch.equal(first, before)


def test_they_lie_as_well_as_those_of_one_process(got: Got) -> None:
    keys, index = tensors().keys, ClusterIndex(24)
    index.build(keys)
    alone = float(assign(unit_rows(keys), index.levels.clusters.centroid)[1].mean())
    together = float(assign(unit_rows(keys), all_alike(got, "clusters", "in full", "centroid"))[1].mean())
    assert together > 0.98 * alone


def test_bytes_do_not_depend_on_the_number_of_cells(got: Got) -> None:
    size, header, probes = len(got), 16, 5
    batches = [len(queries(torch.zeros(sum(QUERIES)), size, rank)) for rank in range(size)]
    for rank, part in enumerate(got):
        own, others = batches[rank], sum(batches) - batches[rank]
        asked = (8 + 4 * (D + 2 * probes) * own) * (size - 1)
        search = asked + 4 * (2 * K + 2) * others + 2 * header * (size - 1)
        assert part["clusters"]["bytes"] == [search, search]


def test_few_cells_and_none_are_found(got: Got) -> None:
    few = joined(got, "clusters", "few", "cell")
    held = min(3, len(got))
    assert bool((few[:, :held].sort(dim=1).values == torch.arange(held)).all())
    assert bool((few[:, held:] == -1).all())
    assert bool((joined(got, "clusters", "none", "cell") == -1).all())


def test_settings_that_differ_are_refused_on_every_rank(got: Got) -> None:
    others = "rank 1" if len(got) == 2 else "ranks 1, 2, 3"
    for part in got:
        for name, what in {"seed": "clusters", "kind": "kind"}.items():
            error = part["clusters"]["errors"][name]
            wanted = f"ConfigError: {others} of {len(got)} and rank 0 differ in the {what} of their indexes"
            assert error.startswith(wanted)
        assert part["clusters"]["errors"]["afterwards"] == "nothing"


def test_keys_that_are_not_numbers_and_too_many_places_are_refused(got: Got) -> None:
    for rank, part in enumerate(got):
        nan, places = part["clusters"]["errors"]["nan"], part["clusters"]["errors"]["places"]
        assert nan.startswith("RankError: rank 0 of" if rank else "NonFiniteError: keys")
        assert "lower k" in places


def test_ranks_may_look_further_than_others(got: Got) -> None:
    all_alike(got, "clusters", "further", "centroid")
    for part in got:
        found, wanted = part["clusters"]["further"]["found"], part["clusters"]["further"]["wanted"]
        assert torch.equal(found["cell"], wanted["cell"])
        near(found["reads"], wanted["reads"])


def test_an_index_may_be_replaced_by_one_with_other_clusters(got: Got) -> None:
    assert len(all_alike(got, "clusters", "replaced", "centroid")) == 9
    for part in ("cell", "score", "reads"):
        found, wanted = (joined(got, "clusters", "replaced", which, part) for which in ("found", "wanted"))
        near(found, wanted)


def test_draws_wait_for_clusters_that_are_made_again(got: Got) -> None:
    before, after = (all_alike(got, "clusters", "drawn", name) for name in ("before", "after"))
    assert not torch.equal(before, after)


def test_whoever_watches_sees_the_search_of_this_rank(got: Got) -> None:
    assert all(part["clusters"]["seen"] == [1, 1] for part in got)


def test_a_cell_that_moves_costs_bytes_of_its_clusters_only(got: Got) -> None:
    size, header = len(got), 16
    for rank, part in enumerate(got):
        first, second, changed = part["clusters"]["bytes of moves"]
        queries_of = len(queries(torch.zeros(sum(QUERIES)), size, rank))
        # a round in which rank 0 notes it and the others send queries, and the numbers of the clusters
        again = 8 + (4 * (D + 2 * 5) * queries_of if rank else 0)
        assert first - second == (size - 1) * (again + 2 * header + 8 * changed)
        assert changed == (0 if rank else 2)
