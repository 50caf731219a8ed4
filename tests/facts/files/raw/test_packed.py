"""Packed files are read as what was packed, and stop at a bound if they hold far more than a table would."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from tests.facts.files.written import GOOD, read, zst

from hmn.errors import DataError
from hmn.facts.files.raw.opening import open_bytes

ROWS = b"".join(b"e%d\tr\tv%d\n" % (number, number * 7919 % 1009) for number in range(3000))
PACKS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zst,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", PACKS)
@pytest.mark.parametrize("name", ["facts.tsv", "facts"])
def test_what_was_packed_is_read(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(PACKS[suffix](ROWS))
    assert [row for _, row in read(path)] == [line.split("\t") for line in ROWS.decode().splitlines()]


@pytest.mark.parametrize("suffix", PACKS)
def test_several_parts_are_one_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.tsv{suffix}"
    pack = PACKS[suffix]
    path.write_bytes(pack(GOOD + b"c\tr") + pack(b"\td\n"))
    assert [row for _, row in read(path)] == [["a", "r", "b"], ["c", "r", "d"]]


@pytest.mark.parametrize("suffix", PACKS)
def test_damaged_or_cut_short(tmp_path: Path, suffix: str) -> None:
    packed = PACKS[suffix](ROWS)
    path = tmp_path / "facts.tsv"
    for content in (
        packed[: len(packed) // 2],
        packed[:-1],
        packed[: len(packed) // 2] + b"\0" * 20 + packed[len(packed) // 2 + 20 :],
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"facts\.tsv"):
            read(path)


def test_padding_may_follow_xz(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv.xz"
    path.write_bytes(lzma.compress(GOOD) + b"\0" * 8)
    assert read(path) == [(1, ["a", "r", "b"])]


@pytest.mark.parametrize("line", [b"a\tr\tb\n", b"\0", b"x"])
def test_a_gigabyte_in_a_small_file_stops_at_a_bound(tmp_path: Path, line: bytes) -> None:
    """Only as much is unpacked as it takes to see that the file is no table."""
    path = tmp_path / "facts.tsv.zst"
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    block = line * ((1 << 20) // len(line))
    path.write_bytes(b"".join(packer.compress(block) for _ in range(1024)) + packer.flush())
    assert path.stat().st_size < 1 << 20
    stops_at_a_bound(path)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_other_packers_stop_at_the_same_bound(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.tsv{suffix}"
    path.write_bytes(PACKS[suffix](b"x" * (20 << 20)))
    stops_at_a_bound(path)


def stops_at_a_bound(path: Path) -> None:
    unpacked = 0
    with (
        pytest.raises(DataError, match=r"facts\.tsv\.\w+: it unpacks to more than 250 times its size"),
        open_bytes(path) as read_bytes,
    ):
        while data := read_bytes(1 << 20):
            unpacked += len(data)
    assert unpacked <= 32 << 20
