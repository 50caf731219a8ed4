"""What each rank of 2 and of 4 computes, once for all tests."""

from __future__ import annotations

from typing import Any

import pytest
from tests.distributed.clusters import clusters
from tests.distributed.layers import layers
from tests.distributed.networks import networks
from tests.distributed.processes import everything, run

from hmn.distributed import Ranks


def of_rank(rank: int, size: int) -> dict[str, Any]:
    """What all tests of several ranks look at: processes are slow to start."""
    ranks = Ranks(timeout=120)
    parts = {
        "layers": layers(rank, size, ranks),
        "networks": networks(rank, size, ranks),
        "clusters": clusters(rank, size, ranks),
    }
    return {**parts, **everything(rank, size)}


@pytest.fixture(scope="session", params=[2, 4])
def got(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the ranks return."""
    return run(of_rank, request.param, tmp_path_factory.mktemp("ranks"))
