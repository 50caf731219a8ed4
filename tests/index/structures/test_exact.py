"""Exact search agrees with float64 brute force, on whole numbers to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.index.structures import exact
from hmn.index.structures.exact import ExactIndex
from hmn.results import SearchResult

quick = settings(max_examples=60, deadline=None)


def assert_best(result: SearchResult, query: Tensor, keys: Tensor, k: int, relative: float = 0.0) -> None:
    """Compare a search with the sorted inner products; equal scores may come in any order."""
    b, n = len(query), len(keys)
    every = query.double().numpy() @ keys.double().numpy().T if n else np.zeros((b, 0))
    wanted = np.full((b, k), -np.inf)
    wanted[:, : min(k, n)] = -np.sort(-every, axis=1)[:, :k]
    score, cell = result.score.numpy(), result.cell.numpy()
    assert score.dtype == np.float32 and cell.dtype == np.int64
    assert score.shape == cell.shape == (b, k)
    np.testing.assert_allclose(score, wanted, rtol=relative, atol=relative)
    np.testing.assert_array_equal(cell >= 0, np.isfinite(wanted))
    for row in range(b):
        used = cell[row][cell[row] >= 0]
        assert len(set(used.tolist())) == len(used)
        np.testing.assert_allclose(score[row, : len(used)], every[row, used], rtol=relative, atol=relative)
    assert result.reads.tolist() == [n] * b
    assert result.cells_scored.tolist() == [n] * b


def whole(seed: int, rows: int, features: int, spread: int = 3) -> Tensor:
    """Whole numbers: zero vectors, duplicates and ties are common, and float32 sums of products exact."""
    numbers = np.random.default_rng(seed).integers(-spread, spread + 1, (rows, features))
    return torch.from_numpy(numbers).float()


@quick
@given(
    n=st.one_of(st.integers(0, 5), st.integers(0, 1500)),
    b=st.integers(0, 4),
    d=st.integers(1, 5),
    k=st.integers(1, 6),
    spread=st.sampled_from([0, 1, 50]),
    seed=st.integers(0, 99),
)
def test_agrees_with_brute_force(n: int, b: int, d: int, k: int, spread: int, seed: int) -> None:
    keys, query = whole(seed, n, d, spread), whole(seed + 1000, b, d, 4)
    assert_best(ExactIndex(keys).search(query, k), query, keys, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_on_real_numbers(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(3000, 24, generator=generator, dtype=dtype)
    query = torch.randn(7, 24, generator=generator)
    assert_best(ExactIndex(keys).search(query, 10), query, keys, 10, relative=1e-5)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("rest", [0, 1, 17, 63])
@pytest.mark.parametrize("place", ["tail", "one block", "spread out"])
def test_best_cells_anywhere_are_found_by_blocks(k: int, rest: int, place: str) -> None:
    n = exact.BLOCK * 4 * k + exact.BLOCK + rest
    at = {
        "tail": n - 1 - np.arange(k),
        "one block": exact.BLOCK * 2 + 5 + np.arange(k),
        "spread out": np.arange(k) * exact.BLOCK * 2 + 63,
    }[place]
    keys = whole(1, n, 2)
    keys[:, 0] = 0.0
    keys[torch.from_numpy(at), 0] = torch.arange(100.0, 100.0 + k)
    query = torch.tensor([[1.0, 0.0]])
    result = ExactIndex(keys).search(query, k)
    assert result.cell[0].tolist() == at[::-1].tolist()
    assert_best(result, query, keys, k)


@pytest.mark.parametrize("least", [1, 4, 64])
@pytest.mark.parametrize("removed", [0, 7])
def test_large_batches_and_memories_are_scored_in_parts(
    least: int, removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "CHUNK_SCORES", 100)
    monkeypatch.setattr(exact, "LEAST_QUERIES", least)
    keys, query = whole(3, 30, 4), whole(4, 11, 4)
    index = ExactIndex(keys)
    index.remove(torch.arange(30)[3 : 3 + 2 * removed : 2])
    left = [cell for cell in range(30) if cell not in range(3, 3 + 2 * removed, 2)]
    result = index.search(query, 4)
    assert torch.isin(result.cell, torch.tensor(left)).all()
    number = torch.full((30,), -1).index_copy_(0, torch.tensor(left), torch.arange(len(left)))
    assert_best(result._replace(cell=number[result.cell]), query, keys[left], 4)


def test_shares_storage_and_takes_other_keys() -> None:
    keys = torch.zeros(5, 2)
    index = ExactIndex(keys)
    keys[3, 0] = 2.0
    assert index.search(torch.tensor([[1.0, 0.0]]), 1).cell.tolist() == [[3]]
    index.build(torch.tensor([[1.0], [4.0]]))
    assert len(index) == 2
    assert index.search(torch.tensor([[1.0]]), 1).score.tolist() == [[4.0]]


def test_results_carry_no_gradient() -> None:
    keys, query = torch.ones(3, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    assert not ExactIndex(keys).search(query, 2).score.requires_grad


def test_keys_whose_squares_sum_to_infinity_are_accepted() -> None:
    assert len(ExactIndex(torch.full((40, 2), 3e18))) == 40


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_names_the_first_bad_row(bad: float) -> None:
    rows = torch.zeros(6, 2)
    rows[3, 1], rows[5, 0] = bad, -bad
    with pytest.raises(NonFiniteError, match=r"keys: row 3 holds NaN or infinity \(2 such rows\)"):
        ExactIndex(rows)
    with pytest.raises(NonFiniteError, match=r"query: row 3 "):
        ExactIndex(torch.zeros(4, 2)).search(rows, 1)
    with pytest.raises(NonFiniteError, match=r"row 3 "):
        ExactIndex(torch.zeros(4, 2)).build(rows)


@pytest.mark.parametrize("keys", [torch.zeros(3), torch.zeros(2, 2, 2), torch.zeros(3, 2, dtype=torch.int64)])
def test_keys_other_than_a_float_matrix_are_refused(keys: Tensor) -> None:
    with pytest.raises(ShapeError, match="expected a float matrix"):
        ExactIndex(keys)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (torch.zeros(1, 3), "query has 3 features but the memory has 2"),
        ("query", "query is of type str, expected a tensor"),
        (torch.zeros(2), "expected a float matrix"),
        (torch.zeros(1, 2, dtype=torch.int64), "int64"),
    ],
)
def test_refuses_queries_that_do_not_fit(query: Any, said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        ExactIndex(torch.zeros(4, 2)).search(query, 1)


@pytest.mark.parametrize("k", [0, -1, 2.0])
def test_refuses_other_numbers_of_results(k: Any) -> None:
    with pytest.raises(ConfigError, match=f"k is {k}, expected a whole number of at least 1"):
        ExactIndex(torch.zeros(4, 2)).search(torch.zeros(1, 2), k)
