from __future__ import annotations

import numpy as np

from hmn.paper.network.question_hits import packed, unpacked


def test_shares_come_back_and_take_little_room() -> None:
    share = np.random.default_rng(0).choice(
        [0.0, 1.0, 0.5, 1 / 3, 1 / 12], 10_845, p=[0.4, 0.55, 0.02, 0.02, 0.01]
    )
    text = packed(share)
    np.testing.assert_allclose(unpacked(text), share, atol=1e-12)
    assert len(text) < 6000
    assert len(unpacked(packed(np.empty(0)))) == 0
