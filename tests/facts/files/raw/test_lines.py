"""Lines of text do not depend on how a file is packed or read; damage is reported."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.facts.files.written import GOOD, quick, read, read_skipping, zst

from hmn.errors import DataError
from hmn.facts.files.raw import lines
from hmn.facts.files.source import Source


@quick
@given(
    content=st.lists(
        st.sampled_from(["", "a", "bc" * 3, "é" * 4, "x" * 30, "x" * 11, "y" * 12]), max_size=20
    ),
    chunk=st.integers(1, 12),
    final=st.booleans(),
)
@example(content=["a", "x" * 30, "bc"], chunk=12, final=True)
@example(content=["x" * 42, "bc"], chunk=12, final=False)
def test_lines_do_not_depend_on_chunks(tmp_path: Path, content: list[str], chunk: int, final: bool) -> None:
    """Reference: one split of the whole file, with a longest line of 12 bytes."""
    path = tmp_path / "lines.txt"
    path.write_bytes("\n".join(content).encode() + (b"\n" if final else b""))
    source = Source(path, skip_bad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK", chunk)
        patch.setattr(lines, "MAX_LINE", 12)
        got = list(source.lines())
    numbered = list(enumerate(content, 1))
    assert got == [(n, text) for n, text in numbered if text and len(text.encode()) <= 12]
    assert source.skipped.total == sum(len(text.encode()) > 12 for text in content)


def test_a_line_of_100_mb_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    with path.open("wb") as file:
        file.write(GOOD)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + GOOD)
    tracemalloc.start()
    rows, skipped = read_skipping(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (rows, skipped.total) == ([["a", "r", "b"]] * 2, 1)
    assert peak < 8 << 20


def test_byte_order_mark_carriage_returns_blank_lines_and_no_last_end_of_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tr\tb\r\n\r\n\nc\tr\td\r\ne\tr\tf\r")
    assert read(path) == [(1, ["a", "r", "b"]), (4, ["c", "r", "d"]), (5, ["e", "r", "f"])]


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_compressed_data_cut_short_or_damaged(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    noise = random.Random(0)
    content = b"".join(b"%d\tr\t%d\n" % (i, noise.getrandbits(60)) for i in range(2000))
    packed = pack(content)
    path = tmp_path / "facts.tsv"
    for kept in (3, 5, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:kept])
        with pytest.raises(DataError, match=r"facts\.tsv"):
            read(path)
    path.write_bytes(packed[: len(packed) // 2] + b"\0" * 20 + packed[len(packed) // 2 + 20 :])
    with pytest.raises(DataError, match=r"facts\.tsv"):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_several_compressed_parts_are_one_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "facts.tsv.gz"
    path.write_bytes(pack(GOOD + b"c\tr") + pack(b"\td\n"))
    assert [row for _, row in read(path)] == [["a", "r", "b"], ["c", "r", "d"]]
