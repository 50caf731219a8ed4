"""What no inner product can be taken of is refused by name; all else passes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn._native.finite import LONGEST, check_finite, check_vectors
from hmn.errors import NonFiniteError


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 400),
    features=st.integers(1, 70),
    exponent=st.floats(-44.0, 38.5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_refuses_the_rows_above_the_limit_and_no_others(
    rows: int, features: int, exponent: float, dtype: torch.dtype
) -> None:
    vectors = torch.full((rows, features), 10.0**exponent, dtype=dtype)
    if float(vectors[0, 0].double()) * math.sqrt(features) <= 2.0**63:
        check_vectors(vectors, "keys")
    else:
        with pytest.raises(NonFiniteError, match=rf"keys: row 0 has length .* \({rows} such rows\)"):
            check_vectors(vectors, "keys")


def test_what_passes_has_finite_inner_products() -> None:
    for features in (1, 8, 700):
        longest = torch.full((3, features), 0.999999 * LONGEST / math.sqrt(features))
        check_vectors(longest, "keys")
        assert bool(torch.isfinite(longest @ longest.T).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_names_the_first_row_that_is_not_finite(bad: float) -> None:
    rows = torch.full((6, 2), 1e30)
    rows[3, 1] = rows[5, 0] = bad
    for check in (check_finite, check_vectors):
        with pytest.raises(NonFiniteError, match=r"keys: row 3 holds NaN or infinity \(2 such rows\)"):
            check(rows, "keys")


def test_nothing_and_vectors_without_features_pass() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        check_vectors(torch.zeros(shape), "keys")


def test_values_may_be_as_large_as_their_type() -> None:
    check_finite(torch.full((40, 2), 3e38), "values")
