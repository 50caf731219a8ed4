from __future__ import annotations

from collections.abc import Iterator

import pytest

from hmn._native import backend


@pytest.fixture(params=backend.compiled.available() if backend.compiled is not None else [])
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this processor has, in use during the test."""
    assert backend.compiled is not None
    before = backend.kernels()
    backend.compiled.use(request.param)
    yield request.param
    backend.compiled.use(before)
