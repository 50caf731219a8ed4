"""Every system under test finds what exact search finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.index.score import recalls
from bench.index.systems import ROWS
from bench.index.systems.base import PackageMissingError, lengthened
from bench.index.worker import Bench

from bench.index import data

LEAST = {"hmn wta-hash": 0.85, "SymphonyQG": 0.95}
"""Recall that a row reaches with all of its effort, if less than 0.99: hashes, and codes turned at random."""


def test_equally_long_keys_keep_the_order_of_inner_products(small: data.DataSet) -> None:
    long = lengthened(small.keys)
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), np.linalg.norm(long[0]), rtol=1e-5)
    queries = np.pad(small.queries("tune"), ((0, 0), (0, 1)))
    distance = ((queries[:, None] - long[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distance, axis=1)[:, : data.K]
    assert recalls(small.keys, small.queries("tune"), nearest, small.best("tune")).min() == 1


@pytest.mark.parametrize(
    ("row", "last_resort"),
    [*((row, False) for row in ROWS), *((row, True) for row in ROWS if ROWS[row].graph)],
)
def test_every_system_that_is_installed_finds_what_exact_search_finds(
    row: str, last_resort: bool, small: data.DataSet, tmp_path: Path
) -> None:
    """With all of its effort, one by one as in a batch, and when it was saved and loaded."""
    build = (ROWS[row].fallbacks if last_resort else ROWS[row].builds)(2000, 16)[-1]
    try:
        bench = Bench(row, build, small.folder, threads=1)
    except PackageMissingError as error:
        pytest.skip(str(error))
    bench.build(tmp_path)
    effort, (_, most), others = bench.ranges(data.K)
    setting = others[-1] | ({} if effort is None else {effort: most})
    found = bench.answers(setting, "tune", 64, data.K, 64)
    best = small.best("tune")[:64]
    queries = small.queries("tune")[:64]
    recall = recalls(small.keys, queries, found, best).mean()
    assert recall >= LEAST.get(row, 0.99)
    alone = bench.answers(setting, "tune", 64, data.K, 1)
    assert recalls(small.keys, queries, alone, best).mean() == pytest.approx(recall, abs=0.01)
    again = Bench(row, build, small.folder, threads=1)
    again.load(tmp_path)
    reloaded = again.answers(setting, "tune", 64, data.K, 64)
    assert recalls(small.keys, queries, reloaded, best).mean() == pytest.approx(recall, abs=0.01)
    reads = bench.reads(setting, "tune", 64, data.K)
    assert reads is None or reads > 0
