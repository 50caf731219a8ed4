"""Values as JSON with tensors beside it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from hmn.errors import ConfigError
from hmn.store.values import packed_values, unpacked_values


def test_values_come_back_as_they_were() -> None:
    values: dict[str, Any] = {
        "betas": (0.9, 0.1 + 0.2),
        "milestones": {3: 1, "last": None},
        "lr": torch.tensor(0.1),
        "count": torch.tensor(1 << 40),
        "half": torch.tensor(1 / 3, dtype=torch.bfloat16),
        "table": torch.arange(4).view(2, 2),
        "nested": [[torch.ones(1)], True, "text", -math.inf, {"$odd": 1}],
    }
    packed, tensors = packed_values(values, "extra")
    assert sorted(tensors) == ["extra/nested/0/0", "extra/table"]
    back = unpacked_values(json.loads(json.dumps(packed, allow_nan=False)), tensors)
    assert back.keys() == values.keys()
    for name in ("betas", "milestones"):
        assert back[name] == values[name]
    for name in ("lr", "count", "half", "table"):
        assert back[name].dtype == values[name].dtype and torch.equal(back[name], values[name])
    assert torch.equal(back["nested"][0][0], torch.ones(1)) and back["nested"][1:] == values["nested"][1:]


def test_nan_comes_back() -> None:
    packed, _ = packed_values([float("nan")], "extra")
    assert math.isnan(unpacked_values(json.loads(json.dumps(packed, allow_nan=False)), {})[0])


@pytest.mark.parametrize("odd", [object(), {1.5: 1}, {None}, b"bytes"])
def test_other_types_are_refused_where_they_are(odd: object) -> None:
    with pytest.raises(ConfigError, match=r"extra/run/0 is of type \w+, expected None, a number"):
        packed_values({"run": [odd]}, "extra")


@pytest.mark.parametrize(
    "damaged",
    [
        {"$tensor": "extra/none"},
        {"$what": 1},
        {"$tuple": [], "more": 1},
        {"$scalar": [1.0, "save"]},
        {"$float": "word"},
    ],
)
def test_damaged_values_are_refused(damaged: Any) -> None:
    with pytest.raises((ValueError, KeyError)):
        unpacked_values([damaged], {})
