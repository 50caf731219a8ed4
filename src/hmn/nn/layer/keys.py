"""Keys that a new memory layer begins with: random, and yet easy to search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.nn.settings import check_seed, check_whole


def product_keys(cells: int, features: int, seed: int = 0) -> Tensor:
    """Keys ``(cells, features)`` float32 in two halves, each one of about ``sqrt(cells)`` random vectors.

    So begin the keys of a product-key memory (Lample et al. 2019), which always stay so; these are rows like
    any others once training moves them. Each numeral is from a normal distribution of variance 1. Keys that
    are wholly random defeat every index: it has to score most of them.

    Args:
        cells: number of keys.
        features: features of a key, at least 2.
        seed: seed of the vectors.

    Raises:
        ConfigError: a number is out of its range.
    """
    cells = check_whole("cells", cells, "the number of keys")
    if check_whole("features", features, "the features of a key") < 2:
        raise ConfigError(f"features is {features}, expected at least 2: each key has two halves")
    side, generator = max(1, math.isqrt(cells - 1) + 1), torch.Generator().manual_seed(check_seed(seed))
    first, second = (
        torch.randn(side, width, generator=generator, dtype=torch.float32, device=generator.device)
        for width in (features - features // 2, features // 2)
    )
    number = torch.arange(cells, dtype=torch.int64, device=first.device)
    return torch.cat([first[number // side], second[number % side]], dim=1)
