from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from hmn.errors import BundleError, ShapeError
from hmn.store.contents import check_finite, fitting, record_of, tensor_like


@dataclass
class Lap:
    step: int = 0
    best: float = -1.0
    depth: int | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)


GOOD = {"step": 3, "best": 1, "depth": None, "epochs": [{"a": 1}]}


def test_a_record_is_made_of_the_object_that_it_was_written_to() -> None:
    assert record_of(Lap, GOOD) == Lap(3, 1.0, None, [{"a": 1}])
    assert record_of(Lap, {**GOOD, "depth": 4}) == Lap(3, 1.0, 4, [{"a": 1}])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], r"got \[1\], expected an object"),
        ({**GOOD, "more": 1}, "the field 'more' is missing or unknown, expected best, depth, epochs, step"),
        ({"step": 1}, "the field 'best' is missing"),
        ({**GOOD, "step": True}, "step is True, expected int"),
        ({**GOOD, "step": 1.0}, "step is 1.0, expected int"),
        ({**GOOD, "best": float("inf")}, "best is inf, expected float or int"),
        ({**GOOD, "depth": "4"}, "depth is '4', expected NoneType or int"),
        ({**GOOD, "epochs": {}}, "epochs is {}, expected list"),
    ],
)
def test_any_other_object_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_of(Lap, values)


def test_a_tensor_has_the_type_and_shape_of_another() -> None:
    tensors = {"a": torch.zeros(2, 3)}
    assert tensor_like(tensors, "a", torch.ones(2, 3)) is tensors["a"]
    with pytest.raises(ValueError, match="no tensor b"):
        tensor_like(tensors, "b", torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"a is \(2, 3\) of torch.float32, expected \(3,\) of torch.float32"):
        tensor_like(tensors, "a", torch.ones(3))
    with pytest.raises(ValueError, match=r"expected \(2, 3\) of torch.float64"):
        tensor_like(tensors, "a", torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.complex64], ids=str)
def test_nan_and_infinity_are_named(dtype: torch.dtype) -> None:
    most = torch.finfo(torch.float32 if dtype.is_complex else dtype).max
    check_finite({"whole": torch.tensor([1]), "large": torch.full((9,), most, dtype=dtype)})
    for bad in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(ValueError, match="'odd' holds NaN or infinity"):
            check_finite({"good": torch.zeros(3), "odd": torch.tensor([1.0, bad]).to(dtype)})


def test_numbers_of_8_bits_are_checked_too() -> None:
    check_finite({"whole": torch.tensor([3], dtype=torch.int8), "small": torch.ones(3).to(torch.float8_e5m2)})
    with pytest.raises(ValueError, match="'odd' holds NaN or infinity"):
        check_finite({"odd": torch.tensor([1.0, torch.nan]).to(torch.float8_e5m2)})


def test_a_failure_names_the_file() -> None:
    with (
        pytest.raises(BundleError, match=r"^a/b: its content does not fit \(KeyError: 'x'\): restore"),
        fitting("a/b"),
    ):
        {}["x"]
    with (
        pytest.raises(BundleError, match=r"^a/b: its content does not fit \(too short\): restore"),
        fitting("a/b"),
    ):
        raise ShapeError("too short")
    with pytest.raises(BundleError, match=r"^c$"), fitting("a/b"):
        raise BundleError("c")
    with pytest.raises(MemoryError), fitting("a/b"):
        raise MemoryError
