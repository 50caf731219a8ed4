"""Keys of a new layer."""

from __future__ import annotations

import pytest
import torch

from hmn.errors import ConfigError
from hmn.nn import product_keys


@pytest.mark.parametrize(("cells", "features"), [(1, 2), (2, 3), (17, 5), (100, 8)])
def test_each_half_is_one_of_few_vectors_and_no_key_comes_twice(cells: int, features: int) -> None:
    keys = product_keys(cells, features)
    assert keys.shape == (cells, features)
    width, side = features - features // 2, -int(-(cells**0.5) // 1)
    assert len(torch.unique(keys[:, :width], dim=0)) <= side
    assert len(torch.unique(keys[:, width:], dim=0)) <= side
    assert len(torch.unique(keys, dim=0)) == cells
    assert torch.equal(keys, product_keys(cells, features, seed=0))
    assert not torch.equal(keys, product_keys(cells, features, seed=1))


def test_numbers_are_normal() -> None:
    keys = product_keys(10_000, 64)
    assert abs(float(keys.mean())) < 0.05 and abs(float(keys.std()) - 1) < 0.05


@pytest.mark.parametrize(("cells", "features"), [(0, 4), (4, 1), (4.5, 4)])
def test_numbers_out_of_range_are_refused(cells: int, features: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        product_keys(cells, features)
