from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.bundles import make_bundle
from tests.serve.processes import Forks


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 24 facts about twelve people."""
    return make_bundle(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, alone in its folder."""
    return Path(shutil.copytree(trained, tmp_path / "served" / "model"))


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """What starts processes that are killed."""
    with Forks() as started:
        yield started
