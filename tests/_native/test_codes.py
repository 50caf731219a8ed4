"""Codes written by compiled kernels are as close to the vectors as those of PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hmn._native as native
from hmn._native import codes, write_entries
from hmn._native.level import LANES
from hmn.index.storage.coded_lists import Lists

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
quick = settings(max_examples=30, deadline=None)


@quick
@given(
    n=st.integers(0, 40),
    d=st.integers(1, 40),
    bits=st.sampled_from([1, 4, 8]),
    directed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_compiled_codes_are_as_close_as_those_of_pytorch(
    n: int, d: int, bits: int, directed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n + 5, d, generator=generator)
    vectors[::7] = 0
    rows = torch.randperm(n + 5, generator=generator)[:n]
    vector = vectors[rows]
    direction = torch.randn(3, d, generator=generator) if directed else torch.zeros(3, 1)
    direction[1] = 0
    lists = torch.randint(3, (n,), generator=generator)
    slot = torch.randperm(4 * LANES, generator=generator)[:n]
    whole = []
    for write in (write_entries, codes.write_entries):
        empty = Lists(d, bits, vector.device)
        empty.build(
            torch.zeros(49, dtype=torch.int64), torch.arange(49), torch.zeros(49, d), torch.zeros(1, 1)
        )
        level = empty.level
        write(level, slot, vectors, rows, lists, direction)
        code = codes.codes_of(level, slot, d) - level.zero
        rest = level.step[slot].unsqueeze(1) * code
        towards = direction[lists] if directed and d > 1 else torch.zeros(n, d)
        whole.append(level.along[slot].unsqueeze(1) * towards + rest)
        untouched = torch.ones(len(level.step), dtype=torch.bool).index_fill_(0, slot, False)
        assert not level.step[untouched].any() and not level.along[untouched].any()
    # codes may differ where a coordinate lies halfway between two
    errors = [(decoded - vector).square().sum(dim=1) for decoded in whole]
    torch.testing.assert_close(errors[0], errors[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("write", [write_entries, codes.write_entries])
def test_vectors_of_16_bits_get_the_codes_of_float32(
    write: Callable[..., None], storage: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(40, 21, generator=generator).to(storage)
    direction, lists = torch.randn(3, 21, generator=generator), torch.arange(30) % 3
    rows, slot = (torch.randperm(count, generator=generator)[:30] for count in (40, 4 * LANES))
    levels = []
    for one in (vectors, vectors.float()):
        lists_of = Lists(21, 4, torch.device("cpu"))
        lists_of.build(torch.zeros(49).long(), torch.arange(49), torch.zeros(49, 21), torch.zeros(1, 1))
        write(lists_of.level, slot, one, rows, lists, direction)
        levels.append(lists_of.level)
    assert bool((levels[0].codes != 0).any())
    for name in ("codes", "along", "step"):
        assert torch.equal(getattr(levels[0], name), getattr(levels[1], name))


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e18])
@pytest.mark.parametrize("write", [write_entries, codes.write_entries])
def test_directions_may_have_any_length(write: Callable[..., None], size: float) -> None:
    """The square of a tiny direction is zero in float32."""
    direction = size * torch.tensor([[1.0, 2.0, -2.0]])
    lists = Lists(3, 8, torch.device("cpu"))
    nothing = torch.zeros(2, dtype=torch.int64)
    lists.build(nothing, torch.arange(2), torch.zeros(2, 3), torch.zeros(1, 1))
    vectors = torch.cat([2 * direction, -direction])
    write(lists.level, torch.arange(2), vectors, torch.arange(2), nothing, direction)
    torch.testing.assert_close(lists.level.along[:2], torch.tensor([2.0, -1.0]))
