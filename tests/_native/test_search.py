"""Search through levels: every set of instructions finds what PyTorch and plain Python find."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native import backend, search_levels
from hmn._native.fallback import search as pytorch
from hmn._native.level import IN_FULL, LANES, Begin, Level
from hmn.errors import NonFiniteError, ShapeError
from hmn.index.storage.coded_lists import Lists

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
SETS = backend.compiled.available() if backend.compiled is not None else []
quick = settings(max_examples=30, deadline=None)


def drawn(
    n: int, d: int, lists: int, bits: int, seed: int
) -> tuple[Tensor, list[Level], list[Tensor], Tensor]:
    """Random keys, two levels (directions, and keys in random lists), the directions, and queries."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(n, d, generator=generator)
    direction = torch.randn(lists, d, generator=generator)
    device = keys.device
    top, leaves = Lists(d, 8, device), Lists(d, bits, device)
    top.build(torch.zeros(lists, dtype=torch.int64), torch.arange(lists), direction, torch.zeros(1, 1))
    leaves.build(torch.randint(lists, (n,), generator=generator), torch.arange(n), keys, direction)
    return keys, [top.level, leaves.level], [direction], torch.randn(7, d, generator=generator)


def by_loop(query: Tensor, level: Level, lists: list[int], base: list[float]) -> dict[int, float]:
    """Scores by code of the entries of lists, in plain Python, by the layout that ``Level`` documents."""
    largest = max(abs(x) for x in query.tolist())
    number = [round(x * 127 / largest) if largest else 0 for x in query.double().tolist()]
    found = {}
    groups = level.codes.shape[1]
    for number_of_list, along in zip(lists, base, strict=True):
        for entry in range(int(level.length[number_of_list])):
            slot = int(level.first_panel[number_of_list]) * LANES + entry
            total = 0.0
            for feature, q in enumerate(number):
                part, rest = divmod(feature, 4 * groups)
                byte = int(level.codes[slot // LANES, rest // 4, slot % LANES, rest % 4])
                code = (byte >> part * level.bits) % 2**level.bits
                total += (code - level.zero) * q * largest / 127
            found[slot] = float(level.along[slot]) * along + float(level.step[slot]) * total
    return found


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("d", [1, 3, 8, 37])
def test_pytorch_scores_codes_as_the_layout_says(bits: int, d: int) -> None:
    _, levels, directions, query = drawn(90, d, 3, bits, 0)
    lists = torch.tensor([[0, 2]] * len(query))
    base = (directions[0][lists] * query.unsqueeze(1)).sum(dim=2)
    found, score, scanned = pytorch._scan(query, levels[1], lists, base, 5)
    for row in range(len(query)):
        scores = by_loop(query[row], levels[1], [0, 2], base[row].tolist())
        assert scanned[row] == len(scores)
        best = sorted(scores.values(), reverse=True)[:5]
        assert [scores[int(slot)] for slot in found[row]] == pytest.approx(best, abs=1e-3)
        assert score[row].tolist() == pytest.approx(best, abs=1e-3)


@quick
@given(
    n=st.integers(0, 300),
    d=st.integers(1, 70),
    lists=st.integers(1, 9),
    bits=st.sampled_from([1, 4, 8, IN_FULL]),
    directed=st.booleans(),
    storage=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    probes=st.integers(1, 9),
    k=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_every_set_of_instructions_finds_what_pytorch_finds(
    n: int,
    d: int,
    lists: int,
    bits: int,
    directed: bool,
    storage: torch.dtype,
    probes: int,
    k: int,
    seed: int,
) -> None:
    keys, levels, directions, query = drawn(n, d, lists, bits, seed)
    keys = keys.to(storage)
    vectors = directions if directed else [None]
    arguments = (query, levels, vectors, [min(probes, lists)], keys, k + 5, k)
    wanted = pytorch.search_levels(*arguments)
    before = native.kernels()
    try:
        for name in SETS:
            backend.compiled.use(name)
            score, row, reads, scored = search_levels(*arguments)
            torch.testing.assert_close(score, wanted.score, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(reads, wanted.reads)
            assert torch.equal(scored, wanted.cells_scored)
            assert torch.equal(row < 0, wanted.cell < 0)
            if n == 0:
                continue
            true = (keys.double()[row.clamp(min=0)] @ query.double().unsqueeze(2)).squeeze(2)
            torch.testing.assert_close(
                score.double(), true.masked_fill(row < 0, -math.inf), rtol=1e-4, atol=1e-4
            )
    finally:
        backend.compiled.use(before)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("batch", [1, 2, 70])
def test_all_entries_without_codes_are_scored_by_their_keys(batch: int) -> None:
    keys, levels, directions, _ = drawn(500, 21, 4, IN_FULL, 5)
    query = torch.randn(batch, 21, generator=torch.Generator().manual_seed(6))
    found = search_levels(query, levels, directions, [4], keys, 12, 12)
    best = (query.double() @ keys.double().T).topk(12, dim=1)
    torch.testing.assert_close(found.score.double(), best.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.cell, best.indices)
    assert found.cells_scored.tolist() == [500] * batch
    # the first level: 4 codes of 24 bytes with two numbers each, and 4 directions; then all keys
    assert found.reads.tolist() == pytest.approx([(4 * (24 + 8) + (4 + 500) * 84) / 84] * batch)


@pytest.mark.usefixtures("instructions")
def test_without_directions_the_score_by_code_is_used() -> None:
    keys, levels, directions, query = drawn(300, 21, 5, 1, 5)
    found = search_levels(query, levels, [None], [5], keys, 12, 12)
    assert (found.reads * 84).tolist() == pytest.approx([5 * (24 + 8) + 300 * (4 + 8) + 12 * 84] * 7)
    # codes of 8 bits are very close to the directions, so that both searches find nearly the same cells
    other = search_levels(query, levels, directions, [5], keys, 12, 12)
    assert other.reads.tolist() == pytest.approx((found.reads + 5).tolist())
    same = [len(set(a) & set(b)) for a, b in zip(found.cell.tolist(), other.cell.tolist(), strict=True)]
    assert min(same) >= 10


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_weights_change_which_entries_are_best_but_not_their_scores(bits: int) -> None:
    keys, levels, directions, query = drawn(300, 21, 40, bits, 5)
    weight = torch.rand(len(directions[0]), generator=torch.Generator().manual_seed(1)) + 0.5
    own = torch.rand(len(keys), generator=torch.Generator().manual_seed(2)) + 0.5
    arguments = (query, levels, [None], [5], keys, 12, 12)
    found = search_levels(*arguments, weights=[weight, own])
    wanted = pytorch.search_levels(*arguments, weights=[weight, own])
    torch.testing.assert_close(found.score, wanted.score, rtol=1e-4, atol=1e-4)
    assert float((found.cell == wanted.cell).float().mean()) > 0.95
    torch.testing.assert_close(found.score, (query @ keys.T).gather(1, found.cell), rtol=1e-4, atol=1e-4)
    # weights of 1 change nothing
    ones = torch.ones_like(own)
    plain = search_levels(*arguments)
    same = search_levels(*arguments, weights=[torch.ones_like(weight), ones])
    assert torch.equal(plain.cell, same.cell)
    assert not torch.equal(plain.cell, found.cell)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_query_with_nan_or_infinity_is_refused(bad: float) -> None:
    keys, levels, directions, query = drawn(50, 8, 2, 8, 3)
    query[3, 5] = bad
    with pytest.raises(NonFiniteError, match="row 3"):
        search_levels(query, levels, directions, [2], keys, 10, 5)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("bits", [1, 4, 8, IN_FULL])
def test_threads_do_not_change_the_result(bits: int) -> None:
    keys, levels, directions, _ = drawn(4000, 24, 12, 4, 1)
    keys[:] = keys[:40].repeat(100, 1)  # many ties
    leaves = Lists(24, bits, keys.device)
    leaves.build(torch.arange(4000) % 12, torch.arange(4000), keys, directions[0])
    query = torch.randn(300, 24, generator=torch.Generator().manual_seed(2))
    arguments = (query, [levels[0], leaves.level], directions, [6], keys, 30, 10)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(search_levels(*arguments))
    finally:
        torch.set_num_threads(threads)
    for result in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, found[0], strict=True))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("bits", [1, 4, 8, IN_FULL])
def test_a_search_goes_on_where_another_has_ended(bits: int) -> None:
    keys, levels, directions, query = drawn(300, 12, 9, bits, 5)
    wanted = search_levels(query, levels, directions, [3], keys, 20, 5)
    way = search_levels(query, levels[:1], [], [], directions[0], 3, 3)
    lists = torch.nn.functional.pad(way.cell, (1, 1), value=-1)  # places without a list change nothing
    begin = Begin(lists, torch.nn.functional.pad(way.score, (1, 1)))
    for search in (search_levels, pytorch.search_levels):
        found = search(query, levels[1:], [], [], keys, 20, 5, begin=begin)
        assert torch.equal(found.cell, wanted.cell)
        torch.testing.assert_close(found.score, wanted.score)
        torch.testing.assert_close(found.reads + way.reads, wanted.reads)
        assert torch.equal(found.cells_scored, wanted.cells_scored)
        nothing = Begin(torch.full_like(lists, -1), begin.base)
        found = search(query, levels[1:], [], [], keys, 20, 5, begin=nothing)
        assert bool((found.cell == -1).all()) and bool((found.reads == 0).all())


@pytest.mark.usefixtures("instructions")
def test_fewer_rows_scored_in_full_than_results_leave_places_unused() -> None:
    keys, levels, directions, query = drawn(300, 12, 9, 8, 5)
    wanted = search_levels(query, levels, directions, [9], keys, 4, 4)
    for search in (search_levels, pytorch.search_levels):
        found = search(query, levels, directions, [9], keys, 4, 6)
        assert torch.equal(found.cell[:, :4], wanted.cell)
        assert bool((found.cell[:, 4:] == -1).all()) and bool((found.score[:, 4:] == -math.inf).all())


@pytest.mark.usefixtures("instructions")
def test_children_that_hold_nothing_are_passed_over_in_the_last_level_too() -> None:
    _, levels, directions, query = drawn(300, 12, 9, 8, 5)
    held = torch.ones(9, dtype=torch.int32)
    best = search_levels(query, levels[:1], [], [], directions[0], 9, 9).cell
    held[best[0, :2]] = 0
    for search in (search_levels, pytorch.search_levels):
        found = search(query[:1], levels[:1], [], [], directions[0], 7, 7, held=[held]).cell
        assert torch.equal(found, best[:1, 2:])


@pytest.mark.usefixtures("instructions")
def test_lists_to_begin_with_must_exist() -> None:
    keys, levels, _, query = drawn(50, 8, 2, 8, 3)
    begin = Begin(torch.full((len(query), 1), 2), torch.zeros(len(query), 1))
    with pytest.raises(ShapeError, match="a list to begin with is 2, expected from 0 to below 2"):
        search_levels(query, levels[1:], [], [], keys, 10, 5, begin=begin)
    with pytest.raises(ShapeError, match="lists to begin with is"):
        search_levels(query, levels[1:], [], [], keys, 10, 5, begin=Begin(begin.lists[1:], begin.base))


def test_replaced_tensors_of_a_level_are_noticed() -> None:
    keys, levels, directions, query = drawn(50, 8, 2, 8, 3)
    search_levels(query, levels, directions, [2], keys, 10, 5)
    other = copy.deepcopy(levels)
    other[1].child[:] = 7
    row = search_levels(query, other, directions, [2], keys, 10, 5).cell
    assert set(row.flatten().tolist()) == {7}
    levels[1].child = other[1].child
    row = search_levels(query, levels, directions, [2], keys, 10, 5).cell
    assert set(row.flatten().tolist()) == {7}


def test_parts_that_do_not_fit_are_refused() -> None:
    keys, levels, directions, query = drawn(50, 8, 2, 8, 3)
    with pytest.raises(ValueError, match="features"):
        search_levels(query[:, :7], levels, directions, [2], keys, 10, 5)
    with pytest.raises(ValueError, match="fit each other"):
        search_levels(query, levels, directions, [], keys, 10, 5)
    broken = copy.deepcopy(levels[1])
    broken.step = broken.step[:-1]
    with pytest.raises(ValueError, match="step is"):
        search_levels(query, [levels[0], broken], directions, [2], keys, 10, 5)
