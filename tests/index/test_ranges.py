"""All cells above a score, compared with float64 brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.index.reference import listed, whole
from tests.index.test_contract import EVERYWHERE, scattered

from hmn.errors import ConfigError, NonFiniteError, ShapeError
from hmn.index import Where, make_index, ranges
from hmn.index.protocol import Index

pytestmark = pytest.mark.usefixtures("every_group_entered")

D = 4


@pytest.fixture(params=listed(EVERYWHERE))
def make(request: pytest.FixtureRequest) -> Callable[..., Index]:
    return lambda **more: make_index(request.param, **more)


@pytest.mark.parametrize("n", [0, 1, 300])
def test_agrees_with_brute_force(make: Callable[..., Index], n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PLACES", 100)  # a few queries at a time
    keys, query, cells = whole(n, n, D), whole(n + 1, 7, D), scattered(n)
    index = make()
    index.build(keys, cells)
    column = torch.arange(3 * n + 1) % 4
    least = torch.tensor([-100.0, 0, 3, 5, 5.5, 9, 100])
    for bound, allowed in ((2, None), (least, None), (least, Where(column, torch.arange(7) % 5))):
        found = index.search_range(query, bound, allowed=allowed)
        scores = query.double() @ keys.double().T
        assert found.begin.shape == (8,) and found.begin[-1] == len(found.cell) == len(found.score)
        for line in range(7):
            own = slice(int(found.begin[line]), int(found.begin[line + 1]))
            wanted = scores[line] >= (bound if isinstance(bound, int) else float(least[line]))
            if allowed is not None:
                wanted &= column[cells] == line % 5
            assert sorted(found.cell[own].tolist()) == sorted(cells[wanted].tolist())
            assert found.score[own].tolist() == sorted(scores[line, wanted].tolist(), reverse=True)
        limited = index.search_range(query, bound, 5, allowed)
        assert limited.begin.diff().tolist() == found.begin.diff().clamp(max=5).tolist()
        assert limited.reads.shape == limited.cells_scored.shape == (7,)


def test_bad_bounds_are_refused(make: Callable[..., Index]) -> None:
    index, query = make(), whole(2, 6, D)
    index.build(whole(1, 40, D))
    assert index.search_range(query[:0], 1).begin.tolist() == [0]
    with pytest.raises(ShapeError, match=r"least is \(5,\) for 6 queries, expected one number"):
        index.search_range(query, torch.zeros(5))
    with pytest.raises(NonFiniteError, match="least holds NaN"):
        index.search_range(query, float("nan"))
    with pytest.raises(ConfigError, match=r"least is of type torch\.bool"):
        index.search_range(query, True)
    with pytest.raises(ConfigError, match="limit is 0"):
        index.search_range(query, 1.0, 0)
    with pytest.raises(ShapeError, match="expected a float matrix"):
        index.search_range(query[0], 1.0)
