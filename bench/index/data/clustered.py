"""Generated keys in clusters, and queries from another distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.index.systems.base import Floats, unit

BLOCK = 1 << 16
"""Keys generated at a time."""


def generated(
    cells: int, features: int, clusters: int, queries: int, seed: int
) -> tuple[Floats, Floats, dict[str, Any]]:
    """(b) Clustered keys whose norms vary by a factor of 10, and queries from another distribution."""
    random = np.random.default_rng(seed)
    centre = unit(random.standard_normal((clusters, features), dtype=np.float32))
    share = random.lognormal(0, 1, clusters)
    width = random.uniform(0.4, 1.2, clusters).astype(np.float32)
    member = random.choice(clusters, cells, p=share / share.sum())
    keys = np.empty((cells, features), dtype=np.float32)
    for start in range(0, cells, BLOCK):
        cluster = member[start : start + BLOCK]
        noise = random.standard_normal((len(cluster), features), dtype=np.float32)
        norm = np.exp(random.uniform(0, np.log(10), (len(cluster), 1))).astype(np.float32)
        direction = unit(centre[cluster] + width[cluster, None] * noise / np.float32(features**0.5))
        keys[start : start + BLOCK] = direction * norm
    # a query lies between two cells, off both, with a norm of its own
    first, second = random.integers(0, cells, (2, queries))
    weight = random.uniform(0.5, 1, (queries, 1)).astype(np.float32)
    noise = random.standard_normal((queries, features), dtype=np.float32) / np.float32(2 * features**0.5)
    asked = unit(weight * unit(keys[first]) + (1 - weight) * unit(keys[second]) + noise)
    asked *= random.lognormal(0, 0.5, (queries, 1)).astype(np.float32)
    about = {
        "title": "generated",
        "about": f"{clusters:,} Gaussian clusters of log-normal size on the sphere, widths 0.4 to "
        "1.2 of a centre's length, norms log-uniform in 1 to 10; queries: between two cells' directions "
        "(weights 0.5 to 1), noise of half their length, log-normal norms",
        "seed": seed,
    }
    return keys, asked, about
