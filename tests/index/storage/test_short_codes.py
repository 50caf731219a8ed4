from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hmn.errors import ConfigError, ShapeError
from hmn.index.storage import short_codes
from hmn.index.storage.saved import Saved
from hmn.index.storage.short_codes import LEAST_SHARE, ShortCodes

CPU = torch.device("cpu")


def directions(count: int, features: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, features, generator=generator), dim=1)


def fitted(points: Tensor, parts: int, turned: bool) -> ShortCodes:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(short_codes, "CLEARLY", 1e9 if turned else 0.0)
        codes = ShortCodes.fit(points, parts, torch.Generator().manual_seed(0))
    assert (codes.rotation is not None) == turned
    return codes


@pytest.mark.parametrize("turned", [False, True])
@settings(max_examples=30, deadline=None)
@given(features=st.integers(2, 40), parts=st.sampled_from([8, 16, 24, 32]), seed=st.integers(0, 99))
def test_the_factor_gives_a_vector_the_right_product_with_itself(
    turned: bool, features: int, parts: int, seed: int
) -> None:
    codes = fitted(directions(200, features, seed), parts, turned)
    rest = directions(50, features, seed + 100) * torch.logspace(-3, 3, 50).unsqueeze(1)
    code, step = codes.encode(rest)
    assert code.shape == (50, parts) and int(code.max()) < 16
    decoded = codes.decode(code)
    share = (decoded * F.normalize(rest, dim=1)).sum(dim=1)
    kept = share > 2 * LEAST_SHARE
    assert int(kept.sum()) > 25
    product = step * (decoded * rest).sum(dim=1)
    torch.testing.assert_close(product[kept], rest.square().sum(dim=1)[kept], rtol=1e-3, atol=1e-9)
    assert bool((step <= rest.norm(dim=1) / LEAST_SHARE * 1.001).all())


@pytest.mark.parametrize("turned", [False, True])
def test_each_part_gets_its_nearest_centroid(turned: bool) -> None:
    codes = fitted(directions(300, 11), 8, turned)
    unit = directions(40, 11, 5)
    code, _ = codes.encode(3.5 * unit)
    place = codes.parts_of(unit)  # (m, n, w)
    for row in range(40):
        for part in range(8):
            away = (codes.centroid[part].T.double() - place[row, part].double()).square().sum(dim=1)
            assert float(away[int(code[row, part])]) == pytest.approx(float(away.min()), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_tables_sum_to_the_product_with_what_a_code_stands_for(turned: bool) -> None:
    codes = fitted(directions(300, 19), 16, turned)
    query, code = directions(6, 19, 3) * 7, codes.encode(directions(30, 19, 4))[0]
    table = codes.tables(query)  # (B, n, 16)
    summed = table[:, torch.arange(16), code.long()].sum(dim=2)  # (B, m)
    torch.testing.assert_close(summed, query @ codes.decode(code).T, rtol=1e-4, atol=1e-5)


def test_each_feature_has_one_place_and_parts_hold_equal_shares() -> None:
    scale = torch.tensor([8.0] * 8 + [1.0] * 24)
    points = F.normalize(directions(4000, 32) * scale, dim=1)
    codes = fitted(points, 8, False)
    assert codes.order is not None
    assert sorted(codes.order[codes.order >= 0].tolist()) == list(range(32))
    share = codes.parts_of(points).square().sum(dim=2).mean(dim=0)  # (n,)
    assert float(share.max()) < 1.1 * float(share.min())
    for part in codes.order.view(8, -1):
        assert int((part < 8).sum()) == 1, "large features share a part"


def test_the_code_of_sixteen_kinds_of_vectors_is_exact() -> None:
    kinds = directions(16, 24)
    codes = ShortCodes.fit(kinds.repeat(500, 1), 8, torch.Generator().manual_seed(1))
    code, step = codes.encode(kinds)
    decoded = step.unsqueeze(1) * codes.decode(code)
    assert float((decoded - kinds).norm(dim=1).median()) < 0.25


def test_more_parts_explain_more_and_16_parts_as_much_as_they_should() -> None:
    points, unseen = directions(20_000, 16), directions(2000, 16, 1)
    left = []
    for parts in (8, 16, 24):
        codes = ShortCodes.fit(points, parts, torch.Generator().manual_seed(0))
        left.append(float((unseen - codes.decode(codes.encode(unseen)[0])).square().sum(dim=1).mean()))
    assert left[0] < 0.2  # 2 bits for each feature leave 0.12 of a normal distribution at best
    assert left[1] < 0.02  # 4 bits: 0.0095
    assert left[2] < 0.02, "parts without features cost something"


def test_a_rotation_is_chosen_where_it_explains_clearly_more() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(5000, 24, generator=generator) * torch.logspace(0, -2, 24)
    turn = torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q
    assert ShortCodes.fit(F.normalize(plain, dim=1), 8, generator).rotation is None
    codes = ShortCodes.fit(F.normalize(plain @ turn, dim=1), 8, generator)
    assert codes.rotation is not None
    held = codes.rotation[codes.rotation.square().sum(dim=1) > 0]
    torch.testing.assert_close(held @ held.T, torch.eye(24), rtol=1e-4, atol=1e-4)


def test_zeros_have_a_factor_of_zero() -> None:
    codes = ShortCodes.fit(directions(100, 7), 8, torch.Generator().manual_seed(0))
    code, step = codes.encode(torch.zeros(3, 7))
    assert code.shape == (3, 8)
    assert step.tolist() == [0.0] * 3
    assert codes.encode(torch.zeros(0, 7))[0].shape == (0, 8)


@pytest.mark.parametrize("points", [torch.zeros(0, 5), torch.zeros(9, 5), torch.eye(5)[:1]])
def test_codes_can_be_fitted_to_hardly_anything(points: Tensor) -> None:
    codes = ShortCodes.fit(points, 16, torch.Generator().manual_seed(0))
    code, step = codes.encode(torch.eye(5))
    assert bool(torch.isfinite(step.unsqueeze(1) * codes.decode(code)).all())


def test_another_number_of_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="parts is 12"):
        ShortCodes.fit(directions(10, 4), 12, torch.Generator())


@pytest.mark.parametrize("turned", [False, True])
def test_codes_survive_their_state(turned: bool) -> None:
    codes = fitted(directions(300, 9), 8, turned)
    again = ShortCodes.from_state(Saved(codes.state_dict("a."), CPU, "a test"), "a.", 9)
    unit = directions(20, 9, 2)
    for got, wanted in zip(again.encode(unit), codes.encode(unit), strict=True):
        assert torch.equal(got, wanted)
    assert torch.equal(again.decode(again.encode(unit)[0]), codes.decode(codes.encode(unit)[0]))


def test_a_damaged_state_is_refused() -> None:
    plain, turned = (fitted(directions(300, 9), 8, turned).state_dict("a.") for turned in (False, True))
    order, rotation, centroid = plain["a.order"], turned["a.rotation"], plain["a.centroid"]
    twice, beyond, lacking = order.clone(), order.clone(), order.clone()
    twice[order == 1], beyond[order == 1], lacking[order == 1] = 2, 9, -1
    for damaged in (
        {},
        {"a.centroid": centroid},
        {"a.order": order},
        {**plain, "a.order": twice},
        {**plain, "a.order": beyond},
        {**plain, "a.order": lacking},
        {**plain, "a.order": order.long()},
        {**plain, "a.order": order[:-1]},
        {**plain, "a.centroid": centroid[:7]},
        {**plain, "a.centroid": centroid[:, :0], "a.order": order[:0]},
        {**plain, "a.centroid": centroid[:, :, :15]},
        {**plain, "a.centroid": centroid / 0},
        {**turned, "a.rotation": rotation[:, :8]},
        {**turned, "a.rotation": rotation[:-1]},
        {**turned, "a.rotation": rotation * torch.inf},
    ):
        with pytest.raises(ShapeError):
            ShortCodes.from_state(Saved(damaged, CPU, "a test"), "a.", 9)
