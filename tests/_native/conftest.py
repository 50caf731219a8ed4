from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hmn._native import backend


@pytest.fixture(params=backend.compiled.available() if backend.compiled is not None else [])
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this processor has, in use during the test."""
    assert backend.compiled is not None
    before = backend.kernels()
    backend.compiled.use(request.param)
    yield request.param
    backend.compiled.use(before)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Kernels run in two threads here, although `make test` gives each of its processes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
