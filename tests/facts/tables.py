"""Drawn triples, and what a table makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hmn.facts.table import FactTable

REAL = Path(__file__).parents[3] / "shared" / "data" / "simplequestions"


Triple = tuple[str, str, str]


quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


small_id = st.sampled_from(["a", "b", "B", "é", "zz", "New_York", "10", "m.0a"])


some_triples = st.lists(
    st.tuples(small_id, st.sampled_from(["r", "s", "t_u"]), small_id), min_size=1, unique=True
)


def triples_of(facts: FactTable) -> list[Triple]:
    return [facts.fact(cell)[:3] for cell in range(len(facts))]


def assert_same(first: FactTable, second: FactTable) -> None:
    assert first.entities.equals(second.entities)
    assert first.relations == second.relations
    for name in ("subject", "relation", "object"):
        left, right = getattr(first, name), getattr(second, name)
        assert left.dtype == right.dtype == np.int32
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(first.names.start, second.names.start)
    assert first.names.text.equals(second.names.text)


FORMS = {
    "Zürich": "Zu\u0308rich",
    "東京タワー2": "東京ﾀﾜｰ２",
    "ガス": "ｶﾞｽ",
    "New York": "New\u00a0York",
    "Rio de Janeiro": "Rio\u3000de \u2009Janeiro",
    "한국": "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "ABBA(band)": "ＡＢＢＡ（band）",
}
"""Names as most people write them, and the same names in another form of Unicode."""
