"""A small data set for the tests of the benchmark of search structures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.index import data


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> data.DataSet:
    return data.prepare("small", tmp_path_factory.mktemp("data"), Path("none"), Path("none"))
