"""Settings of layers and memories do what they say, or are refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError, ShapeError
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.memory.stored import Memory

LAYERS: dict[str, Callable[..., Any]] = {
    "kmips": lambda memory, **more: KMIPSAttention(memory, 5, **more),
    "strategy": lambda memory, **more: KMIPSAttention(memory, 5, strategy="k-mips", corrected=True, **more),
    "softmax": SoftmaxAttention,
    "hard": HardAttention,
}


def rows(count: int = 9, features: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def scored(layer: Any, query: Tensor) -> Tensor:
    return layer(query).weight.square().sum()  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_scale_that_is_a_parameter_learns(kind: str, shape: tuple[int, ...]) -> None:
    scale, query = nn.Parameter(torch.full(shape, 0.7)), rows(3, seed=1)
    layer = LAYERS[kind](Memory(rows()), scale=scale).eval()
    assert layer.scale is scale and dict(layer.named_parameters())["scale"] is scale
    scored(layer, query).backward()
    fixed = LAYERS[kind](Memory(rows()), scale=0.7).eval()
    torch.testing.assert_close(scored(layer, query), scored(fixed, query))
    above, below = (LAYERS[kind](Memory(rows()), scale=0.7 + step).eval() for step in (1e-3, -1e-3))
    wanted = (scored(above, query) - scored(below, query)) / 2e-3
    assert scale.grad is not None and abs(float(wanted)) > 1e-3
    torch.testing.assert_close(scale.grad.reshape(()), wanted, rtol=1e-2, atol=1e-4)
    other = LAYERS[kind](Memory(rows()), scale=nn.Parameter(torch.ones(shape))).eval()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(scored(other, query), scored(layer, query))
    torch.testing.assert_close(scored(copy.deepcopy(layer), query), scored(layer, query))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_scale_that_is_a_tensor_is_a_buffer_and_moves_with_the_layer(kind: str) -> None:
    layer = LAYERS[kind](Memory(rows()), scale=torch.tensor(0.7)).eval()
    assert "scale" in dict(layer.named_buffers()) and "scale" in layer.state_dict()
    query = rows(3, seed=1)
    fixed = LAYERS[kind](Memory(rows()), scale=np.float32(0.7)).eval()
    torch.testing.assert_close(scored(layer, query), scored(fixed, query))
    assert layer.double().scale.dtype == torch.float64 and "scale" not in fixed.state_dict()


def test_a_temperature_is_found_by_training() -> None:
    memory, query = Memory(rows(50)), rows(40, seed=1)
    wanted = KMIPSAttention(memory, 50, scale=3.0)(query).value
    layer = KMIPSAttention(memory, 50, scale=nn.Parameter(torch.tensor(1.0)))
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (layer(query).value - wanted).square().sum().backward()
        optimiser.step()
    assert abs(layer.scale.item() - 3.0) < 0.05


BAD_SCALES = [
    0, -1.0, torch.nan, torch.inf, "1", True, None, [1.0], 1j,
    torch.tensor(-1.0), torch.ones(2), torch.tensor(1), torch.tensor(torch.nan),
    nn.Parameter(-torch.ones(())),
]  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_other_scales_are_refused(kind: str) -> None:
    for scale in BAD_SCALES:
        with pytest.raises(ConfigError, match=r"scale is .*, expected a finite number above 0"):
            LAYERS[kind](Memory(rows()), scale=scale)
    for scale, got in (
        (torch.tensor(-1.5), "-1.5"),
        (torch.ones(2), r"\(2,\) of torch.float32"),
        ("x", "'x'"),
    ):
        with pytest.raises(ConfigError, match=f"scale is {got}, expected"):
            LAYERS[kind](Memory(rows()), scale=scale)
    learned = nn.Parameter(torch.zeros(()))
    for scale in (learned.exp(), torch.ones((), requires_grad=True)):
        with pytest.raises(
            ConfigError, match=r"not a parameter, expected nn.Parameter.*multiply the queries"
        ):
            LAYERS[kind](Memory(rows()), scale=scale)


BAD_ARGUMENTS = [
    (KMIPSAttention, {"k": True}, "k is True"),
    (KMIPSAttention, {"k": 2.0}, "k is 2.0"),
    (KMIPSAttention, {"k": "3"}, "k is '3'"),
    (KMIPSAttention, {"k": torch.tensor(3)}, "k is tensor"),
    (KMIPSAttention, {"k": 0}, "k is 0"),
    (KMIPSAttention, {"k": 3, "corrected": "no"}, "corrected is 'no', expected True or False"),
    (KMIPSAttention, {"k": 3, "corrected": 1}, "corrected is 1"),
    (KMIPSAttention, {"k": 3, "seed": "0"}, "seed is '0'"),
    (KMIPSAttention, {"k": 3, "seed": 1 << 64}, "seed is 18446744073709551616"),
    (KMIPSAttention, {"k": 3, "seed": 1.5}, "seed is 1.5"),
    (KMIPSAttention, {"k": 3, "refiled": True}, "refiled is True"),
    (KMIPSAttention, {"k": 3, "refiled": 2.0}, "refiled is 2.0"),
    (KMIPSAttention, {"k": 3, "strategy": 3}, "strategy is 3"),
    (KMIPSAttention, {"k": 3, "index": 3}, "index is int"),
    (HardAttention, {"decay": "0.5"}, "decay is '0.5'"),
    (HardAttention, {"decay": False}, "decay is False"),
    (HardAttention, {"decay": 1.0}, "decay is 1.0"),
    (HardAttention, {"decay": torch.nan}, "decay is nan"),
    (HardAttention, {"seed": None}, "seed is None"),
]


@pytest.mark.parametrize(
    ("layer", "arguments", "message"), BAD_ARGUMENTS, ids=[bad[2] for bad in BAD_ARGUMENTS]
)
def test_arguments_of_other_types_are_refused(layer: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layer(Memory(rows()), **arguments)


def test_numbers_of_numpy_are_numbers() -> None:
    layer = KMIPSAttention(Memory(rows()), np.int64(3), refiled=np.int64(4), seed=np.uint64(5))
    assert layer(rows(2)).cell.shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "trained"),
    [
        ({}, ()),
        ({"trainable": True}, ("key_table.weight", "value_table.weight")),
        ({"train_keys": True}, ("key_table.weight",)),
        ({"train_values": True}, ("value_table.weight",)),
        ({"trainable": True, "train_keys": False}, ("value_table.weight",)),
        ({"trainable": True, "train_values": False}, ("key_table.weight",)),
    ],
)
def test_keys_and_values_are_trained_as_asked(arguments: dict[str, bool], trained: tuple[str, ...]) -> None:
    memory = Memory(rows(), rows(9, 2), **arguments)
    assert tuple(name for name, _ in memory.named_parameters()) == trained
    assert sorted(memory.state_dict()) == ["key_table.weight", "value_table.weight"]
    assert memory.trainable is bool(trained)
    query = rows(3, seed=1).requires_grad_()
    KMIPSAttention(memory, 4)(query).value.sum().backward()
    assert query.grad is not None and (memory.keys.grad is not None) is ("key_table.weight" in trained)
    assert memory.values is not None
    assert (memory.values.grad is not None) is ("value_table.weight" in trained)


def test_switches_of_a_memory_are_true_or_false() -> None:
    for name in ("trainable", "sparse", "train_keys", "train_values"):
        for bad in ("values", 1, torch.tensor(True)):
            with pytest.raises(ConfigError, match=f"{name} is .*, expected True or False"):
                Memory(rows(), rows(), **{name: bad})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="train_values is True but there are no values"):
        Memory(rows(), train_values=True)


@pytest.mark.parametrize("name", ["keys", "values"])
def test_rows_whose_gradients_would_end_here_are_refused(name: str) -> None:
    weight = rows().requires_grad_()
    for train in (False, True):
        tables = {"keys": rows(), "values": rows()}
        with pytest.raises(ConfigError, match=f"{name} were computed with a graph.*EncodedMemory"):
            Memory(**(tables | {name: 2 * weight}), trainable=train)
        with pytest.raises(ConfigError, match=f"{name} require gradients.*train_{name}=True"):
            Memory(**(tables | {name: weight}), trainable=train)
    with pytest.raises(ConfigError, match=f"{name} require gradients"):
        Memory(**(tables | {name: nn.Parameter(rows())}))
    with torch.no_grad():
        Memory(**(tables | {name: 2 * weight}))


def test_a_parameter_stays_the_same_parameter() -> None:
    linear = nn.Linear(4, 9)
    memory = Memory(linear.weight, nn.Parameter(rows()), trainable=True, sparse=False)
    assert memory.keys is linear.weight
    KMIPSAttention(memory, 3)(rows(2)).value.sum().backward()
    assert linear.weight.grad is not None and bool(linear.weight.grad.any())


def test_a_strategy_may_be_given_later_as_text() -> None:
    layer = KMIPSAttention(Memory(rows()), 2, index="cluster")
    layer.strategy = "top-k:2"  # type: ignore[assignment]
    assert layer.strategy == Strategy.parse("top-k:2")
    layer.train()(rows()[:2])
    with pytest.raises(ConfigError, match="strategy 'tip-k:2'"):
        layer.strategy = "tip-k:2"  # type: ignore[assignment]
    with pytest.raises(ShapeError, match="the state is NoneType, expected a dictionary"):
        layer.indexed.load_index(None)  # type: ignore[arg-type]
