"""Search among few allowed rows: every set of instructions, and PyTorch, find what plain Python finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import hmn._native as native
from hmn._native import backend, count_allowed, score_few, search_levels, share_allowed
from hmn._native.allowed.filter import Enough, Filter
from hmn._native.fallback import allowed as pytorch
from hmn._native.fallback import search as pytorch_search
from hmn._native.level import IN_FULL, Level
from hmn.errors import NonFiniteError, ShapeError
from hmn.index.storage.coded_lists import Lists

N, D, B, K = 150, 9, 7, 6
HIGHEST = 2**63 - 1


@pytest.fixture(params=[*(backend.compiled.available() if backend.compiled is not None else []), "twin"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions, and PyTorch in place of the kernels."""
    if request.param == "twin":
        monkeypatch.setattr(backend, "compiled", None)
    else:
        assert backend.compiled is not None
        before = backend.kernels()
        backend.compiled.use(request.param)
        request.addfinalizer(lambda: backend.compiled is None or backend.compiled.use(before))
    return str(request.param)


def filters(seed: int) -> list[Filter]:
    """Masks, and limits for all or for each, by row and by cell; two rows have no cell."""
    rng = np.random.default_rng(seed)

    def numbers(low: int, high: int, count: int) -> Tensor:
        return torch.from_numpy(rng.integers(low, high, count))

    one, cell = torch.zeros(1, dtype=torch.int64), torch.from_numpy(rng.permutation(3 * N)[:N])
    cell[:2] = -1
    low = torch.cat([numbers(-4, 4, B - 2), torch.tensor([-(2**63), HIGHEST])])
    high = torch.cat([low[: B - 2] + numbers(-1, 4, B - 2), torch.tensor([HIGHEST, HIGHEST])])
    far = numbers(-4, 4, N) * (1 << 40)  # too far apart for a table
    return [
        Filter(torch.from_numpy(rng.random(N) < 0.5), one, one),
        Filter(torch.from_numpy(rng.random(2 * N) < 0.5), one, one, cell),
        Filter(torch.zeros(0, dtype=torch.bool), one, one),
        Filter(numbers(-4, 4, N), one - 1, one + 1),
        Filter(numbers(-4, 4, N), one + 1, one - 1),
        Filter(numbers(-4, 4, N), low, high),
        Filter(numbers(-4, 4, N // 2), low, high),
        Filter(numbers(-4, 4, 2 * N), low, high, cell),
        Filter(far, low * (1 << 38), high),
        Filter(numbers(-4, 4, 0), low, high, cell),
    ]


def sets_of(allowed: Filter) -> list[list[int]]:
    """Rows that each query may find, by the words of ``Filter``."""
    sets = []
    for query in range(B):
        low, high = (int(part[0 if len(part) == 1 else query]) for part in (allowed.low, allowed.high))
        own = []
        for row in range(N):
            cell = row if allowed.cell is None else int(allowed.cell[row])
            if 0 <= cell < len(allowed.number):
                number = allowed.number[cell].item()
                if number if isinstance(number, bool) else low <= number <= high:
                    own.append(row)
        sets.append(own)
    return sets


def drawn(seed: int, storage: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, query = torch.randn(N, D, generator=generator), torch.randn(B, D, generator=generator)
    return keys.to(storage), query


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("few", [0, 20, 70, N])
@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
def test_queries_with_few_rows_find_the_best_of_them(few: int, storage: torch.dtype) -> None:
    keys, query = drawn(few, storage)
    for allowed in filters(few):
        for asked in (None, torch.arange(B) % 3 > 0):
            result, done = score_few(query, keys, allowed, asked, N, few, K)
            for line, own in enumerate(sets_of(allowed)):
                answers = len(own) <= few and (asked is None or bool(asked[line]))
                assert bool(done[line]) == answers
                rows = torch.tensor(own if answers else [], dtype=torch.int64)
                score = keys[rows].double() @ query[line].double()
                order = score.argsort(descending=True)[:K]
                have = len(order)
                assert result.cell[line].tolist() == [*rows[order].tolist(), *[-1] * (K - have)]
                torch.testing.assert_close(
                    result.score[line, :have].double(), score[order], rtol=1e-5, atol=1e-5
                )
                assert result.score[line, have:].tolist() == [-math.inf] * (K - have)
                assert int(result.cells_scored[line]) == len(rows)
                assert float(result.reads[line]) == pytest.approx(len(rows) * keys.element_size() / 4)


@pytest.mark.usefixtures("instructions")
def test_shares_are_exact_where_all_rows_are_looked_at_and_near_where_not() -> None:
    for allowed in filters(5):
        live = N if allowed.cell is None else N - 2
        wanted = [len(own) / live for own in sets_of(allowed)]
        share = share_allowed(allowed, B, N, 1000)
        assert share.shape == allowed.low.shape
        assert share.expand(B).tolist() == pytest.approx(wanted)
        near = share_allowed(allowed, B, N, 100)
        assert (near.expand(B) - torch.tensor(wanted)).abs().max() < 0.15
    steps = Filter((torch.arange(1 << 14) % 64 == 0), torch.zeros(1).long(), torch.zeros(1).long())
    assert float(share_allowed(steps, 1, 1 << 14, 1024)) == pytest.approx(1 / 64, abs=0.01)


def lists(seed: int, bits: int) -> tuple[Tensor, list[Level], list[Tensor], Tensor]:
    """Keys, two levels, the directions of 12 lists, and queries."""
    keys, query = drawn(seed, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(12, D, generator=generator)
    top, leaves = Lists(D, 8, keys.device), Lists(D, bits, keys.device)
    top.build(torch.zeros(12, dtype=torch.int64), torch.arange(12), direction, torch.zeros(1, 1))
    leaves.build(torch.randint(11, (N,), generator=generator), torch.arange(N), keys, direction)
    return keys, [top.level, leaves.level], [direction], query


@pytest.mark.usefixtures("instructions")
def test_entries_of_lists_are_counted() -> None:
    levels = lists(1, 4)[1]
    for allowed in filters(1):
        if allowed.is_shared:
            own = set(sets_of(allowed)[0])
            members = [levels[1].children_of(torch.tensor([number]))[0].tolist() for number in range(12)]
            wanted = [len(own & set(rows)) for rows in members]
            assert count_allowed(levels[1], allowed, N).tolist() == wanted


@pytest.mark.parametrize("bits", [1, 4, 8, IN_FULL])
@pytest.mark.parametrize("least", [0.0, 9.0, 1000.0])
def test_a_search_through_levels_passes_over_other_rows(instructions: str, bits: int, least: float) -> None:
    keys, levels, directions, query = lists(2, bits)
    for allowed in filters(2):
        results = []
        for search in (search_levels, pytorch_search.search_levels):
            lacking = torch.zeros(B, dtype=torch.bool)
            enough = Enough(2, torch.full((B,), least), N, N, lacking)
            found = search(query, levels, directions, [12], keys, N, N, allowed=allowed, enough=enough)
            results.append((found, lacking))
            plain = search(query, levels, directions, [12], keys, N, N, allowed=allowed)
            for line, own in enumerate(sets_of(allowed)):
                scores = (keys[own].double() @ query[line].double()).sort(descending=True).values
                torch.testing.assert_close(
                    plain.score[line, : len(own)].double(), scores, rtol=1e-4, atol=1e-4
                )
                assert plain.cell[line, len(own) :].tolist() == [-1] * (N - len(own))
                cells = found.cell[line][found.cell[line] >= 0].tolist()
                assert set(cells) <= set(own)
                assert len(cells) == len(own) or len(cells) >= least
                assert not lacking[line] or len(cells) == len(own)
        (one, lacking), (other, too) = results
        torch.testing.assert_close(one.score, other.score, rtol=1e-4, atol=1e-4)
        assert torch.equal(one.cells_scored, other.cells_scored) and torch.equal(lacking, too), instructions


@pytest.mark.usefixtures("instructions")
def test_a_query_with_nan_is_refused() -> None:
    keys, query = drawn(0, torch.float32)
    query[3, 1] = math.nan
    with pytest.raises(NonFiniteError, match="query: row 3"):
        score_few(query, keys, filters(0)[0], None, N, N, K)


@pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
def test_filters_that_do_not_fit_are_refused() -> None:
    keys, query = drawn(0, torch.float32)
    column, limit = torch.zeros(N, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    cells = torch.arange(N - 1)
    with pytest.raises(ShapeError, match="filter do not fit the queries"):
        score_few(query, keys, Filter(column, limit, limit), None, N, N, K)
    with pytest.raises(ShapeError, match="filter do not fit the queries"):
        score_few(query, keys, Filter(column, limit[:1], limit[:1], cells), None, N, N, K)
    with pytest.raises(ShapeError, match=r"the numbers of allowed is .*int32"):
        score_few(query, keys, Filter(column.int(), limit[:1], limit[:1]), None, N, N, K)
    with pytest.raises(ShapeError, match="no filter to search by"):
        score_few(query, keys, filters(0)[0], None, N + 1, N, K)
    assert pytorch.count_allowed(lists(1, 4)[1][1], filters(0)[0]).shape == (12,)
