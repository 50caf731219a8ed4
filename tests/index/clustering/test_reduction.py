"""Reduced keys and queries have the lengths and angles that the papers say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.errors import ConfigError, ShapeError
from hmn.index.clustering.reduction import (
    REDUCTIONS,
    NoReduction,
    OneColumnReduction,
    PaperReduction,
    Reduction,
    make_reduction,
)

quick = settings(max_examples=60, deadline=None)
sizes = {"n": st.integers(2, 40), "d": st.integers(1, 12), "seed": st.integers(0, 999)}


def drawn(n: int, d: int, seed: int, spread: float = 10.0) -> tuple[Tensor, Tensor]:
    """Keys of norms that differ up to ``spread`` times, and a query."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(n, d, generator=generator)
    keys = keys / keys.norm(dim=1, keepdim=True) * spread ** torch.rand(n, 1, generator=generator)
    return keys, torch.randn(1, d, generator=generator)


def products_and_cosines(reduction: Reduction, keys: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    reduction.fit(keys)
    p, q = reduction.keys(keys).double(), reduction.queries(query).double()
    cosine = (p @ q[0]) / (p.norm(dim=1) * q.norm())
    return keys.double() @ query[0].double(), cosine


@quick
@given(**sizes)
def test_one_column_orders_cosines_as_inner_products(n: int, d: int, seed: int) -> None:
    keys, query = drawn(n, d, seed)
    product, cosine = products_and_cosines(OneColumnReduction(), keys, query)
    longest = keys.double().norm(dim=1).max()
    torch.testing.assert_close(cosine, product / (longest * query.double().norm()), rtol=0, atol=1e-6)
    larger = product.unsqueeze(1) > product.unsqueeze(0) + 1e-5 * longest * query.double().norm()
    assert bool((cosine.unsqueeze(1) > cosine.unsqueeze(0))[larger].all())


@quick
@given(u=st.floats(0.3, 0.95), m=st.integers(1, 4), **sizes)
def test_paper_reduction_orders_cosines_as_inner_products_within_its_bound(
    u: float, m: int, n: int, d: int, seed: int
) -> None:
    keys, query = drawn(n, d, seed)
    product, cosine = products_and_cosines(PaperReduction(u, m), keys, query)
    bound = u ** (2 ** (m + 1))
    # lengths of P lie between sqrt(m/4) and sqrt(m/4 + bound), so a score larger by that factor comes first
    factor = math.sqrt(1 + 4 * bound / m) * (1 + 1e-5)
    first, second = product.unsqueeze(1), product.unsqueeze(0)
    larger = (first > second * factor) & (first > second / factor)
    assert bool((cosine.unsqueeze(1) > cosine.unsqueeze(0))[larger].all())


@quick
@given(u=st.floats(0.3, 0.95), m=st.integers(1, 4), **sizes)
def test_paper_reduction_is_that_of_the_paper(u: float, m: int, n: int, d: int, seed: int) -> None:
    keys, query = drawn(n, d, seed)
    reduction = PaperReduction(u, m)
    reduction.fit(keys)
    p = reduction.keys(keys).double()
    scaled = keys.double() * u / keys.double().norm(dim=1).max()
    norm = scaled.norm(dim=1)
    wanted = [scaled, *((0.5 - norm ** (2**term)).unsqueeze(1) for term in range(1, m + 1))]
    torch.testing.assert_close(p, torch.cat(wanted, dim=1), rtol=0, atol=1e-6)
    torch.testing.assert_close(p.square().sum(dim=1), m / 4 + norm ** (2 ** (m + 1)), rtol=1e-5, atol=1e-6)
    assert reduction.queries(query).tolist() == [query[0].tolist() + [0.0] * m]


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_shapes_and_types(name: str, dtype: torch.dtype, n: int) -> None:
    reduction = make_reduction(name)
    keys = torch.ones(n, 3, dtype=dtype)
    reduction.fit(keys)
    features = reduction.features(3)
    assert reduction.name == name
    assert reduction.keys(keys).shape == (n, features) and reduction.keys(keys).dtype == torch.float32
    assert reduction.queries(keys).shape == (n, features) and reduction.queries(keys).dtype == torch.float32


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("size", [0.0, 1e-30, 3e38])
def test_zero_tiny_and_huge_keys_stay_finite(name: str, size: float) -> None:
    reduction = make_reduction(name)
    keys = torch.tensor([[size, size], [size, 0.0], [0.0, 0.0]])
    reduction.fit(keys)
    assert bool(torch.isfinite(reduction.keys(keys)).all())


@pytest.mark.parametrize("name", REDUCTIONS)
def test_keys_longer_than_the_longest_fitted_stay_finite(name: str) -> None:
    reduction = make_reduction(name)
    reduction.fit(torch.eye(2))
    for longer in (1.1, 1e3, 1e30):
        assert bool(torch.isfinite(reduction.keys(torch.full((1, 2), longer))).all())
    if name == "one-column":
        assert float(reduction.keys(torch.full((1, 2), 5.0))[0, 2]) == 0


@pytest.mark.parametrize("name", REDUCTIONS)
def test_state_round_trip(name: str) -> None:
    keys = drawn(9, 4, 0)[0]
    reduction, again = make_reduction(name), make_reduction(name)
    reduction.fit(keys)
    state = reduction.state_dict()
    assert all(key.startswith("reduction.") for key in state)
    again.load_state_dict({**state, "rows.used": torch.tensor(3)})
    assert torch.equal(again.keys(keys), reduction.keys(keys))


@pytest.mark.parametrize("of", [PaperReduction(), PaperReduction(m=2), OneColumnReduction(), NoReduction()])
@pytest.mark.parametrize("to", [PaperReduction(), PaperReduction(u=0.5), OneColumnReduction(), NoReduction()])
def test_the_state_of_another_reduction_is_refused(of: Reduction, to: Reduction) -> None:
    if type(of) is type(to) and vars(of) == vars(to):
        return
    before = dict(vars(to))
    with pytest.raises(ShapeError):
        to.load_state_dict(of.state_dict())
    assert vars(to) == before


@pytest.mark.parametrize("bad", [{"u": 0.0}, {"u": 1.0}, {"u": -1.0}, {"m": 0}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PaperReduction(**bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="paper, one-column, none"):
        make_reduction("two-column")
