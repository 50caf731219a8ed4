"""Generated data sets."""

from __future__ import annotations

import numpy as np

from bench.index import data


def test_generated_data_are_those_of_their_seed() -> None:
    first, again = (data.generated(500, 8, 10, 20, seed=3) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first[:2], again[:2], strict=True))
    norms = np.linalg.norm(first[0], axis=1)
    assert 0.99 < norms.min() < 1.2
    assert 8 < norms.max() < 10.01
