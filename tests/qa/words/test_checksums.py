"""Checksums of many spans are those of zlib."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hmn.qa.words.checksums import crc32_of_spans


@given(st.binary(max_size=40), st.integers(0, 9))
def test_each_checksum_is_that_of_zlib(data: bytes, size: int) -> None:
    begin = np.arange(max(0, len(data) - size + 1))
    found = crc32_of_spans(np.frombuffer(data, np.uint8), begin, size)
    assert found.tolist() == [zlib.crc32(data[first : first + size]) for first in begin.tolist()]
