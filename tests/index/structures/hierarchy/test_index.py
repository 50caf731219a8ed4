"""What is peculiar to the hierarchy: what holds after any change, and what it learns."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.reference import clustered, recall, whole
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor

from hmn.errors import CellError, ConfigError, ShapeError
from hmn.index.clustering.kmeans import unit_rows
from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.cluster import ClusterIndex
from hmn.index.structures.hierarchy.index import HierarchicalIndex
from hmn.index.tuning import tune


def assert_codes_begin_where_the_group_ends(index: HierarchicalIndex, keys: Tensor) -> None:
    filing, leaves = index.tree.cells.filing, index.tree.tiers[-1]
    row = torch.arange(len(keys))
    coded = filing.decode(row, leaves.coded)
    # one bit per feature keeps a vector's inner product with what is left of itself
    anchor = leaves.coded[filing.parent[row]]
    along = (keys * anchor).sum(1) / anchor.square().sum(1).clamp(min=1e-12)
    rest = keys - along.unsqueeze(1) * anchor
    torch.testing.assert_close((coded * rest).sum(1), (keys * rest).sum(1), rtol=1e-3, atol=1e-3)


changes = st.lists(
    st.tuples(st.sampled_from("aaru"), st.lists(st.integers(0, 120), min_size=1, max_size=60, unique=True)),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 80), changes=changes, seed=st.integers(0, 99), spread=st.sampled_from([0, 1, 3]))
def test_any_sequence_of_changes_keeps_the_hierarchy_sound(
    start: int, changes: list[tuple[str, list[int]]], seed: int, spread: int
) -> None:
    index = HierarchicalIndex("2x6", None)
    index.build(whole(seed, start, 5, spread))
    held = set(range(start))
    for number, (kind, cells) in enumerate(changes):
        chosen = [cell for cell in cells if (cell in held) != (kind == "a")]
        keys = whole(seed + number, len(chosen), 5, spread)
        if kind == "a":
            index.add(torch.tensor(chosen, dtype=torch.int64), keys)
            held |= set(chosen)
        elif kind == "u":
            index.update(torch.tensor(chosen, dtype=torch.int64), keys)
        else:
            index.remove(torch.tensor(chosen, dtype=torch.int64))
            held -= set(chosen)
        assert_sound(index)
    query = whole(seed + 1, 4, 5)
    other = HierarchicalIndex("2x6", None)
    other.load_state_dict(index.state_dict())
    assert_sound(other)
    for one, two in zip(index.search(query, 7), other.search(query, 7), strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "tiers"), [(1_000, "83"), (20_000, "166x1666"), (200_000, "555x1666x16666")]
)
def test_lays_itself_out(cells: int, tiers: str) -> None:
    keys, query = clustered(0, cells, 64, features=8)
    index = HierarchicalIndex()
    index.build(keys)
    expected = [int(count) for count in tiers.split("x")]
    counts = [int(count) for count in str(index.stats()["num_groups"]).split("x")]
    assert len(counts) == len(expected)
    for count, intended in zip(counts, expected, strict=True):
        assert 0.9 * intended <= count <= 1.3 * intended  # groups that are too large are split
    index.reach, index.rescore = None, cells
    assert recall(index.search(query, 1), query, keys, 1) == 1.0


@pytest.mark.slow
def test_it_finds_nearly_all_with_far_fewer_reads_than_clusters() -> None:
    keys, query = clustered(0, 20_000, 500)
    index, plain = HierarchicalIndex(), ClusterIndex(codes=None)
    index.build(keys)
    plain.build(keys)
    assert_sound(index)
    assert index.stats()["num_groups"].count("x") == 1  # type: ignore[union-attr]
    assert_codes_begin_where_the_group_ends(index, keys)
    tuned, other = (tune(one, query[:250], 1, target_recall=0.97) for one in (index, plain))
    assert recall(index.search(query[250:], 1), query[250:], keys, 1) >= 0.93
    assert tuned.reads < 0.4 * other.reads


@pytest.mark.parametrize("codes", ["int1", "int4", "int8"])
def test_a_wider_reach_reads_more_and_finds_more(codes: str) -> None:
    keys, query = clustered(1, 5_000, 300)
    index = HierarchicalIndex("40x400", codes=codes)
    index.build(keys)
    found = []
    for index.reach in (1, 50, 100, 400, None):
        result = index.search(query, 5)
        found.append((float(result.reads.mean()), recall(result, query, keys, 5)))
    assert found == sorted(found)
    assert found[-1][1] > (0.95 if codes == "int1" else 0.999)
    assert found[0][0] < 0.3 * found[-1][0]


def test_it_learns_where_queries_go() -> None:
    # a cell is a subject and a relation; queries say more about the subject than clusters of cells do
    generator = torch.Generator().manual_seed(0)
    subject, relation = (torch.randn(count, 32, generator=generator) for count in (200, 40))
    keys = (subject.unsqueeze(1) + relation).flatten(0, 1)
    one, other = (torch.randint(count, (9_000,), generator=generator) for count in (200, 40))
    query = 1.5 * subject[one] + 0.5 * relation[other] + 0.6 * torch.randn(9_000, 32, generator=generator)
    best = (query @ keys.T).argmax(dim=1)
    index = HierarchicalIndex("80x800", codes="int8")
    index.build(keys)
    asked = query[8_000:]
    before = tune(index, asked, 1, target_recall=0.97)
    untaught = index.tree.tiers[0].coded.clone()
    index.learn(query[:8_000], best[:8_000])
    assert_sound(index)
    assert not torch.equal(index.tree.tiers[0].coded, untaught)
    after = tune(index, asked, 1, target_recall=0.97)
    assert after.reached
    assert after.reads < 0.85 * before.reads
    index.reach = 100
    assert recall(index.search(asked, 1), asked, keys, 1) > 0.95


def test_what_was_learned_is_saved_and_kept_by_changes() -> None:
    keys, query = clustered(3, 3_000, 1_000)
    best = (query @ keys.T).argmax(dim=1)
    index = HierarchicalIndex("20x200")
    index.build(keys)
    index.learn(query, best)
    widths = [tier.width for tier in index.tree.tiers]
    index.add(torch.arange(3_000, 4_000), keys[:1_000] + 0.1)
    assert_sound(index)
    assert [tier.width for tier in index.tree.tiers] == widths
    other = HierarchicalIndex("20x200")
    other.load_state_dict(index.state_dict())
    for one, two in zip(index.search(query, 3), other.search(query, 3), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("around", [torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)])
def test_learning_is_the_same_under_inference_mode_and_autocast(
    around: AbstractContextManager[object],
) -> None:
    keys, query = clustered(3, 1_000, 600)
    best = (query @ keys.T).argmax(dim=1)
    plain, wrapped = HierarchicalIndex("10x80"), HierarchicalIndex("10x80")
    plain.build(keys)
    plain.learn(query, best)
    with around:
        wrapped.build(keys)
        wrapped.learn(query * 1.0, best)
    state = wrapped.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    wrapped.forget()
    assert not bool(wrapped.tree.tiers[0].taught.any())  # type: ignore[union-attr]


def test_bad_lessons_are_refused() -> None:
    keys, query = clustered(3, 300, 20)
    index = HierarchicalIndex("4x30")
    index.build(keys)
    with pytest.raises(ShapeError, match="20 queries for 19 cells, expected one cell each"):
        index.learn(query, torch.zeros(19, dtype=torch.int64))
    with pytest.raises(CellError, match="no cell 300"):
        index.learn(query, torch.full((20,), 300))
    with pytest.raises(ShapeError, match="features"):
        index.learn(query[:, 1:], torch.zeros(20, dtype=torch.int64))
    with pytest.raises(ConfigError, match="expected one of int1, int4, int8"):
        HierarchicalIndex(codes="int2")
    with pytest.raises(ConfigError, match="reach is 0"):
        HierarchicalIndex(reach=0)


def test_growth_of_one_place_splits_its_groups() -> None:
    keys, query = clustered(4, 1_000, 200)
    index = HierarchicalIndex("10x100", codes="int8")
    index.build(keys)
    groups = [len(tier) for tier in index.tree.tiers]
    generator = torch.Generator().manual_seed(0)
    crowd = keys[0] + 0.2 * torch.randn(3_000, 32, generator=generator)
    for number, part in enumerate(torch.split(crowd, 300)):
        index.add(torch.arange(len(part)) + 1_000 + 300 * number, part)
        assert_sound(index)
    assert all(len(tier) > before for tier, before in zip(index.tree.tiers, groups, strict=True))
    every = torch.cat([keys, crowd])
    near = torch.cat([query, crowd[::30] + 0.1])
    index.reach = 300
    assert recall(index.search(near, 1), near, every, 1) > 0.95
    index.remove(torch.arange(1_000, 4_000))
    assert_sound(index)
    assert recall(index.search(query, 1), query, keys, 1) > 0.9


def test_parts_are_divided_by_direction_into_the_given_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    center = unit_rows(torch.randn(6, 8, generator=generator))
    of = torch.arange(600) % 6
    points = (center[of] + 0.05 * torch.randn(600, 8, generator=generator)) * (1 + of).unsqueeze(1)
    part = (of >= 2).long()  # two directions in one part, four in the other
    piece = divide(points, part, torch.tensor([2, 4]), generator=generator, rounds=8)
    assert torch.equal(torch.unique(piece[part == 0]), torch.tensor([0, 1]))
    assert set(piece[part == 1].tolist()) <= {2, 3, 4, 5}
    pure = sum(int(torch.bincount(of[piece == one]).max()) for one in torch.unique(piece))
    assert pure >= 500  # few pieces hold more than one direction
