"""Keys of a new layer."""

from __future__ import annotations

import pytest
import torch

from hmn.errors import ConfigError
from hmn.nn import clustered_keys
from hmn.nn.layer.keys import NOISE


@pytest.mark.parametrize(("cells", "features"), [(1, 1), (2, 3), (17, 5), (100, 8)])
def test_no_key_comes_twice_and_a_seed_gives_the_same_keys(cells: int, features: int) -> None:
    keys = clustered_keys(cells, features)
    assert keys.shape == (cells, features)
    assert len(torch.unique(keys, dim=0)) == cells
    assert torch.equal(keys, clustered_keys(cells, features, seed=0))
    assert not torch.equal(keys, clustered_keys(cells, features, seed=1))


def test_keys_lie_around_as_many_centres_as_the_root_of_their_number() -> None:
    keys = clustered_keys(4_096, 64)
    group = keys.view(64, 64, 64).transpose(0, 1)  # (centre, key, feature)
    centre = group.mean(dim=1)
    within = float((group - centre.unsqueeze(1)).square().mean())
    assert abs(within - NOISE * 63 / 64) < 0.01 and abs(float(centre.square().mean()) - 0.75) < 0.05


def test_numbers_are_normal() -> None:
    keys = clustered_keys(10_000, 64)
    assert abs(float(keys.mean())) < 0.05 and abs(float(keys.std()) - 1) < 0.05


@pytest.mark.parametrize(("cells", "features"), [(0, 4), (4, 0), (4.5, 4)])
def test_numbers_out_of_range_are_refused(cells: int, features: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        clustered_keys(cells, features)
