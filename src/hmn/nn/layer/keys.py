"""Keys that a new memory layer begins with: random, and yet easy to search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmn.nn.settings import check_seed, check_whole

NOISE = 0.25
"""Part of the variance of keys that is their own; the rest is that of their centres."""


def clustered_keys(cells: int, features: int, seed: int = 0) -> Tensor:
    """Keys ``(cells, features)`` float32 around about ``sqrt(cells)`` random centres.

    A key is one of the centres and noise of its own, each numeral of variance 1 in all. Keys that are wholly
    random defeat every index: it has to score most of them.

    Args:
        cells: number of keys.
        features: features of a key.
        seed: seed of centres and noise.

    Raises:
        ConfigError: a number is out of its range.
    """
    cells = check_whole("cells", cells, "the number of keys")
    features = check_whole("features", features, "the features of a key")
    generator = torch.Generator().manual_seed(check_seed(seed))

    def drawn(count: int) -> Tensor:
        shape = (count, features)
        return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)

    centre = drawn(math.isqrt(cells))
    number = torch.arange(cells, dtype=torch.int64, device=centre.device) % len(centre)
    return math.sqrt(1 - NOISE) * centre[number] + math.sqrt(NOISE) * drawn(cells)
