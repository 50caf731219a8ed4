"""What each rank of 2 and of 4 computes, once for all tests."""

from __future__ import annotations

from typing import Any

import pytest
from tests.distributed.layers import layers_and_everything
from tests.distributed.processes import run


@pytest.fixture(scope="session", params=[2, 4])
def got(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the ranks return."""
    return run(layers_and_everything, request.param, tmp_path_factory.mktemp("ranks"))
