"""First values of tables follow from seed, table and row alone."""

from __future__ import annotations

import zlib

import pytest
import torch

from hmn.qa.encoders.first_values import FirstValues, new_seed

FIRST = FirstValues("names", 70, 0.25)


def mixed(number: int) -> int:
    """Splitmix64 (Steele, Lea & Flood 2014), in whole numbers."""
    whole = (1 << 64) - 1
    number = (number + 1) * 0x9E3779B97F4A7C15 & whole
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & whole
    number = (number ^ number >> 27) * 0x94D049BB133111EB & whole
    return number ^ number >> 31


@pytest.mark.parametrize("seed", [0, 12345, (1 << 62) - 1])
def test_each_sign_is_a_bit_of_the_published_generator(seed: int) -> None:
    begin = mixed(seed ^ zlib.crc32(b"names"))
    rows = [3, 0, 2**31]
    expected = []
    for row in rows:
        bits = [
            mixed(begin + 2 * row + word & (1 << 64) - 1) >> bit & 1 for word in range(2) for bit in range(64)
        ]
        expected.append([0.25 if bit else -0.25 for bit in bits[:70]])
    assert FIRST.of(torch.tensor(seed), torch.tensor(rows)).tolist() == expected


def test_these_values_must_never_change() -> None:
    """Saved models lack the rows that have them."""
    signs = FirstValues("names", 192, 1.0).of(torch.tensor(7), torch.tensor([0, 1, 262143])) > 0
    assert [int(row.sum()) for row in signs] == [93, 94, 94]
    assert signs[0, :16].int().tolist() == [1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1]


def test_rows_are_those_of_the_whole_table_and_tables_differ() -> None:
    seed = torch.tensor(5)
    table = FIRST.table(seed, 40_000)  # more than are made at a time
    rows = torch.tensor([39_999, 17, 16_384])
    assert torch.equal(FIRST.of(seed, rows), table[rows])
    assert table.dtype == torch.float32 and set(table.unique().tolist()) == {-0.25, 0.25}
    for other in (FIRST._replace(name="words").table(seed, 40_000), FIRST.table(torch.tensor(6), 40_000)):
        assert float((other == table).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(table.mean(dim=0).abs().max()) < 0.25 * 0.03


def test_a_table_without_storage_has_no_values_and_seeds_follow_pytorch() -> None:
    with torch.device("meta"):
        assert FIRST.table(new_seed(), 9).is_meta
    torch.manual_seed(3)
    first = int(new_seed())
    torch.manual_seed(3)
    assert int(new_seed()) == first != int(new_seed())
