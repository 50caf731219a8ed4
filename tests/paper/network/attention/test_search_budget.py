from __future__ import annotations

import pytest

from hmn.paper.grid import STRATEGIES
from hmn.paper.network.attention.search_budget import strategy_of


@pytest.mark.parametrize("name", STRATEGIES)
def test_parts_of_a_strategy_have_equal_shares(name: str) -> None:
    strategy = strategy_of(name, 6, 20)
    shares = [strategy.top_clusters, strategy.sample_clusters, strategy.rand_block / 20]
    assert sum(shares) == 6
    assert len({share for share in shares if share}) == 1
    assert (strategy.top_clusters > 0) == (name != "Sample-K")
    assert (strategy.sample_clusters > 0) == ("Sample" in name or name == "all three")
    assert (strategy.rand_block > 0) == ("block" in name or name == "all three")
