"""Candidates scored in full, compiled and in PyTorch, agree with a plain loop."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hmn._native as native
from hmn._native.fallback import buckets as pytorch
from hmn._native.fallback.buckets import distinct, pressed

BestOf = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
BOTH = [pytorch.best_of, native.best_of]
quick = settings(max_examples=80, deadline=None)
rows_of_candidates = st.integers(0, 12).flatmap(
    lambda width: st.lists(st.lists(st.integers(-1, 9), min_size=width, max_size=width), max_size=4)
)


def whole(seed: int, rows: int, features: int) -> Tensor:
    """Vectors of integers, whose products are exact; zero vectors, duplicates and ties are common."""
    numbers = torch.randint(-3, 4, (rows, features), generator=torch.Generator().manual_seed(seed))
    return numbers.float()


@pytest.mark.parametrize("best_of", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
@quick
@given(rows=rows_of_candidates, k=st.integers(1, 15), seed=st.integers(0, 99))
def test_agrees_with_a_plain_loop(
    best_of: BestOf, dtype: torch.dtype, chunk: int, rows: list[list[int]], k: int, seed: int
) -> None:
    keys, query = whole(seed, 10, 3).to(dtype), whole(seed + 1, len(rows), 3)
    candidate = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(rows[0]) if rows else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "CHUNK_NUMBERS", chunk)
        score, row = best_of(query, keys, candidate, k)
    assert score.shape == row.shape == (len(rows), k)
    assert score.dtype == torch.float32 and row.dtype == torch.int64
    for line, candidates in enumerate(rows):
        products = {key: sum((query[line] * keys[key].float()).tolist()) for key in set(candidates) - {-1}}
        wanted = sorted(products.values(), reverse=True)[:k]
        found = [key for key in row[line].tolist() if key >= 0]
        assert len(set(found)) == len(found) == len(wanted)
        assert score[line].tolist() == wanted + [-torch.inf] * (k - len(wanted))
        assert [products[key] for key in found] == wanted
        assert row[line, len(found) :].tolist() == [-1] * (k - len(found))


@quick
@given(rows=rows_of_candidates)
def test_distinct_keeps_each_row_once(rows: list[list[int]]) -> None:
    width = len(rows[0]) if rows else 0
    candidate = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), width)
    kept = distinct(candidate)
    wanted = [sorted(set(line) - {-1}, reverse=True) for line in rows]
    assert [[row for row in line if row >= 0] for line in kept.tolist()] == wanted
    if width:
        assert kept.shape[1] == max((len(line) for line in wanted), default=0)


def test_pressed_keeps_the_order() -> None:
    candidate = torch.tensor([[5, 2, 9, 1], [4, 3, 2, 1]])
    kept = torch.tensor([[False, True, False, True], [True, False, True, True]])
    assert pressed(candidate, kept).tolist() == [[2, 1, -1], [4, 2, 1]]


def test_memory_is_bounded_by_the_chunk() -> None:
    sizes: list[int] = []
    keys, query = torch.ones(50, 8), torch.ones(6, 8)
    candidate = torch.arange(50).expand(6, 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "CHUNK_NUMBERS", 64)
        products = pytorch._products
        patch.setattr(
            pytorch,
            "_products",
            lambda keys, part, vector: sizes.append(part.numel() * 8) or products(keys, part, vector),
        )
        score, _ = pytorch.best_of(query, keys, candidate, 3)
    assert score.tolist() == [[8.0] * 3] * 6
    assert max(sizes) <= 64 and sum(sizes) == 6 * 50 * 8


@pytest.mark.parametrize("best_of", BOTH)
def test_half_keys_are_summed_in_float32(best_of: BestOf) -> None:
    keys = torch.full((1, 4096), 1.0, dtype=torch.float16)
    score, _ = best_of(torch.full((1, 4096), 20.0), keys, torch.tensor([[0]]), 1)
    assert float(score) == 4096 * 20  # beyond the range of float16


@pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
@pytest.mark.parametrize(
    "candidate",
    [torch.tensor([[10]]), torch.tensor([[0], [1]]), torch.tensor([[0]], dtype=torch.int32)],
)
def test_candidates_beyond_the_keys_or_of_another_shape_are_refused(candidate: Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        native.best_of(torch.ones(1, 3), torch.ones(10, 3), candidate, 1)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("d", [1, 5, 16, 33, 64, 100])
def test_best_of_agrees_with_float64(storage: torch.dtype, d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    keys = torch.randn(60, d, generator=generator)
    keys[3] = 1e-6  # too small for the normal numbers of float16
    keys = keys.to(storage)
    query = torch.randn(9, d, generator=generator)
    candidate = torch.randint(-1, 60, (9, 40), generator=generator)
    score, row = native.best_of(query, keys, candidate, 12)
    for number in range(9):
        rows = sorted({row for row in candidate[number].tolist() if row >= 0})
        true = keys.double() @ query[number].double()
        best = true[rows].sort(descending=True).values[:12]
        torch.testing.assert_close(score[number].double(), best, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(score[number].double(), true[row[number]], rtol=1e-4, atol=1e-5)
        assert len(set(row[number].tolist())) == 12
        assert set(row[number].tolist()) <= set(rows)


@pytest.mark.usefixtures("instructions")
def test_best_of_with_too_few_candidates_leaves_places_unused() -> None:
    score, row = native.best_of(torch.ones(1, 2), torch.eye(2), torch.tensor([[1, -1, 1]]), 3)
    assert row.tolist() == [[1, -1, -1]]
    assert score.tolist() == [[1.0, -math.inf, -math.inf]]


WITH_ONE_THREAD = """
import torch
torch.set_num_threads(2)
from hmn import _native as native
keys, candidate = torch.eye(32).repeat(16, 1), torch.arange(512).repeat(64, 1)
score, row = native.best_of(keys[:64], keys, candidate, 1)
assert score.eq(1).all() and row.squeeze(1).tolist() == [number % 32 for number in range(64)]
"""


@pytest.mark.slow
@pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
def test_a_thread_that_never_comes_is_not_waited_for() -> None:
    """OpenMP may start fewer threads than asked for; the others do their work."""
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    subprocess.run([sys.executable, "-c", WITH_ONE_THREAD], env=environment, check=True, timeout=120)
