"""Fingerprints are those of plain whole numbers, and notice every change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.index.storage import fingerprint as module
from hmn.index.storage.fingerprint import checksum_of, row_fingerprints

WRAP = 1 << 64


def splitmix(state: int) -> int:
    """The number after this state, as the authors' C code has it."""
    number = (state + 0x9E3779B97F4A7C15) % WRAP
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) % WRAP
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) % WRAP
    return number ^ (number >> 31)


def mixed(number: int) -> int:
    return splitmix(number * 0x9E3779B97F4A7C15)


def signed(number: int) -> int:
    number %= WRAP
    return number - WRAP if number >= WRAP // 2 else number


def drawn(rows: int, features: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_splitmix_is_that_of_its_authors() -> None:
    # the first numbers of the generator with seed 0
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [splitmix(0x9E3779B97F4A7C15 * turn) for turn in range(3)] == first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_agrees_with_whole_numbers_of_any_size(dtype: torch.dtype) -> None:
    keys = drawn(7, 5, dtype)
    before = keys.clone()
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    bits = keys.view(integers).tolist()
    wanted = [signed(sum(bit * (mixed(at) | 1) for at, bit in enumerate(row))) for row in bits]
    assert row_fingerprints(keys).tolist() == wanted
    assert torch.equal(keys, before)
    cells = [40, 3, 0, 1, 2, 8, 9]
    total = sum(mixed(fingerprint + mixed(cell)) for fingerprint, cell in zip(wanted, cells, strict=True))
    assert checksum_of(row_fingerprints(keys), torch.tensor(cells)) == signed(total)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 60), features=st.integers(0, 9), chunk=st.integers(1, 40), seed=st.integers(0, 9))
def test_chunks_and_order_make_no_difference(rows: int, features: int, chunk: int, seed: int) -> None:
    keys = drawn(rows, features, torch.float32, seed)
    whole = row_fingerprints(keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_NUMBERS", chunk)
        assert torch.equal(row_fingerprints(keys), whole)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(row_fingerprints(keys[order]), whole[order])
    assert torch.equal(row_fingerprints(keys.T.contiguous().T), whole), "strides make no difference"
    assert checksum_of(whole[order], order) == checksum_of(whole, torch.arange(rows))


def test_every_bit_and_every_exchange_is_noticed() -> None:
    keys = drawn(20, 6, torch.float32)
    before, cells = row_fingerprints(keys), torch.arange(20)
    checksum = checksum_of(before, cells)
    for bit in range(32):
        changed = keys.clone()
        changed.view(torch.int32)[3, 2] ^= torch.tensor(
            1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32
        )
        after = row_fingerprints(changed)
        assert (after != before).nonzero().flatten().tolist() == [3]
        assert checksum_of(after, cells) != checksum
    assert (row_fingerprints(keys.flip(1)) != before).all(), "columns are not exchanged"
    exchanged = cells.clone()
    exchanged[:2] = cells[:2].flip(0)
    assert checksum_of(before, exchanged) != checksum
    assert checksum_of(before[:-1], cells[:-1]) != checksum
    zeros = torch.zeros(2, 6)
    assert checksum_of(row_fingerprints(zeros), torch.tensor([0, 1])) != checksum_of(
        row_fingerprints(zeros), torch.tensor([0, 2])
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_finds_the_same() -> None:
    keys = drawn(300, 70, torch.bfloat16)
    assert torch.equal(row_fingerprints(keys.cuda()).cpu(), row_fingerprints(keys))
    cells = torch.arange(300)
    assert checksum_of(row_fingerprints(keys.cuda()), cells.cuda()) == checksum_of(
        row_fingerprints(keys), cells
    )
