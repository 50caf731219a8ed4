"""No kernel takes a tensor of another type, device, layout or shape, or follows a number out of its array."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import hmn._native as native
from hmn._native.level import IN_FULL, Level
from hmn.errors import ShapeError
from hmn.index.storage.coded_lists import Lists

pytestmark = pytest.mark.skipif(native.kernels() == "twin", reason="the kernels were not built")
N, D, LISTS = 300, 24, 5
PARTS = ("codes", "along", "step", "child", "first_panel", "length")


def lists_of(bits: int, features: int = D) -> tuple[Lists, Tensor, Tensor]:
    """Lists of ``N`` rows, the list of each row, and its slot."""
    generator = torch.Generator().manual_seed(0)
    of = torch.arange(N) % (LISTS - 1)  # the last list is empty
    lists = Lists(features, bits, torch.device("cpu"))
    slot = lists.build(
        of, torch.arange(N), keys_of(features), torch.randn(LISTS, features, generator=generator)
    )
    return lists, of, slot


def keys_of(features: int = D) -> Tensor:
    return torch.randn(N, features, generator=torch.Generator().manual_seed(1))


def search(bits: int = 4, weighted: bool = False, **changed: Any) -> Any:
    """A search through two levels; ``changed`` replaces arguments."""
    direction = torch.randn(LISTS, D, generator=torch.Generator().manual_seed(0))
    top = Lists(D, 8, torch.device("cpu"))
    top.build(torch.zeros(LISTS, dtype=torch.int64), torch.arange(LISTS), direction, torch.zeros(1, 1))
    arguments = {
        "query": torch.randn(3, D, generator=torch.Generator().manual_seed(2)),
        "levels": [top.level, lists_of(bits)[0].level],
        "directions": [None if weighted else direction],
        "probes": [LISTS],
        "keys": keys_of(),
        "rescored": 20,
        "k": 5,
        "weights": [torch.ones(LISTS), torch.ones(N)] if weighted else None,
    }
    return native.search_levels(**(arguments | changed))


def screen(**changed: Any) -> Any:
    keys = keys_of()
    level = lists_of(8)[0].level
    arguments = {"query": keys[:3], "level": level, "ratio": 0.01, "keys": keys, "room": 20, "k": 5}
    return native.screened(**(arguments | changed))


def best(**changed: Any) -> Any:
    arguments = {"query": keys_of()[:3], "keys": keys_of(), "candidate": torch.arange(30).view(3, 10), "k": 5}
    return native.best_of(**(arguments | changed))


def take_out(**changed: Any) -> None:
    lists, of, slot = lists_of(4)
    arguments = {"level": lists.level, "lists": of[:9], "slot": slot[:9].clone(), "slot_of": slot}
    native.take_out(**(arguments | changed))


def enter(**changed: Any) -> None:
    lists, _, slot = lists_of(4)
    arguments = {
        "level": lists.level,
        "room": lists._room,
        "used": lists._used,
        "lists": torch.tensor([0, 1]),
        "child": torch.tensor([N, N + 1]),
        "slot_of": torch.cat([slot, torch.full((2,), -1)]),
    }
    native.enter(**(arguments | changed))


def means(**changed: Any) -> Any:
    arguments = {
        "level": lists_of(4)[0].level,
        "lists": torch.arange(3),
        "vectors": keys_of(),
        "weight": None,
    }
    return native.means(**(arguments | changed))


def write(**changed: Any) -> None:
    lists, of, slot = lists_of(4)
    arguments = {
        "level": lists.level,
        "slot": slot[:7],
        "vectors": keys_of(),
        "rows": torch.arange(7),
        "lists": of[:7],
        "direction": torch.randn(LISTS, D),
    }
    native.write_entries(**(arguments | changed))


def list_rows(**changed: Any) -> None:
    arguments = {
        "listed": torch.arange(50, dtype=torch.int32),
        "begin": torch.tensor([[0, 5], [10, 40]]),
        "size": torch.tensor([[3, 4], [5, 10]]),
        "filled": torch.tensor([0, 2]),
        "candidate": torch.full((2, 17), -1),
    }
    native.list_rows(**(arguments | changed))


def most_frequent(**changed: Any) -> Any:
    return native.most_frequent(**({"candidate": torch.arange(30).view(3, 10), "limit": 4} | changed))


KERNELS: list[Callable[..., Any]] = [
    search,
    screen,
    best,
    take_out,
    enter,
    means,
    write,
    list_rows,
    most_frequent,
]


def spoiled_level(part: str, change: Callable[[Tensor], Tensor], bits: int = 4) -> Level:
    level = lists_of(bits)[0].level
    setattr(level, part, change(getattr(level, part)))
    return level


def spread(tensor: Tensor) -> Tensor:
    """The same numbers, not contiguous."""
    return tensor.unsqueeze(-1).repeat(*(1 for _ in tensor.shape), 2)[..., 0]


def filled(number: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, number)


@pytest.mark.parametrize("kernel", KERNELS)
def test_good_arguments_are_accepted(kernel: Callable[..., Any]) -> None:
    kernel()


@pytest.mark.parametrize("kernel", [search, screen, best])
@pytest.mark.parametrize(
    "change",
    [
        {"query": torch.zeros(3, D, dtype=torch.float64)},
        {"query": torch.zeros(D)},
        {"query": torch.zeros(3, D, 1)},
        {"query": torch.zeros(3, D + 1)},
        {"keys": torch.zeros(N, D, dtype=torch.float64)},
        {"keys": torch.zeros(N, D, dtype=torch.int8)},
        {"keys": torch.zeros(N, D, device="meta")},
        {"keys": torch.zeros(N)},
    ],
)
def test_queries_and_keys_must_fit(kernel: Callable[..., Any], change: dict[str, Tensor]) -> None:
    with pytest.raises(ShapeError, match="expected"):
        kernel(**change)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kernel", [search, screen, take_out, enter, means, write])
def test_the_parts_of_a_level_must_fit(kernel: Callable[..., Any], part: str) -> None:
    for change in (
        lambda tensor: tensor.double(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor[:-1],
        lambda tensor: tensor.unsqueeze(0),
        spread,
    ):
        level = spoiled_level(part, change, 8 if kernel is screen else 4)
        with pytest.raises(ShapeError):
            kernel(**({"levels": [lists_of(8)[0].level, level]} if kernel is search else {"level": level}))


@pytest.mark.parametrize(
    "change",
    [
        {"probes": [0]},
        {"probes": []},
        {"rescored": 0},
        {"k": 0},
        {"directions": [torch.zeros(LISTS, D, dtype=torch.float64)]},
        {"directions": [torch.zeros(LISTS - 1, D)]},
        {"directions": [torch.zeros(LISTS, D - 1)]},
        {"directions": [torch.zeros(LISTS, D, device="meta")]},
        {"directions": []},
        {"weights": [torch.ones(LISTS), torch.ones(N - 1)]},
        {"weights": [torch.ones(LISTS), torch.ones(N).double()]},
        {"weights": [torch.ones(LISTS), torch.ones(2 * N)[::2]]},
        {"weights": [torch.ones(LISTS)]},
        {"levels": []},
        {"keys": torch.zeros(N - 1, D), "rescored": N},
    ],
)
def test_the_arguments_of_a_search_must_fit(change: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        search(weighted="weights" in change, **change)


@pytest.mark.parametrize(
    ("kernel", "name", "changes"),
    [
        (best, "candidate", [lambda t: t.int(), lambda t: t[:2], lambda t: t.flatten()]),
        (take_out, "lists", [lambda t: t.int(), lambda t: t.unsqueeze(1)]),
        (take_out, "slot", [lambda t: t.int(), lambda t: t[:-1]]),
        (take_out, "slot_of", [lambda t: t.int(), spread]),
        (enter, "room", [lambda t: t.int(), lambda t: t[:-1], spread]),
        (enter, "child", [lambda t: t.int(), lambda t: t[:-1]]),
        (enter, "slot_of", [lambda t: t.int(), spread]),
        (means, "vectors", [lambda t: t.double(), lambda t: t.flatten()]),
        (write, "rows", [lambda t: t.int(), lambda t: t[:-1]]),
        (write, "direction", [lambda t: t.double()]),
        (write, "vectors", [lambda t: t.double(), lambda t: t[:, :-1]]),
        (list_rows, "listed", [lambda t: t.long()]),
        (list_rows, "begin", [lambda t: t.int(), lambda t: t[:1]]),
        (list_rows, "filled", [lambda t: t.int(), lambda t: t[:1]]),
        (list_rows, "candidate", [lambda t: t.int(), lambda t: t[:1], spread]),
        (most_frequent, "candidate", [lambda t: t.int(), lambda t: t.flatten()]),
    ],
)
def test_other_arguments_must_fit(
    kernel: Callable[..., Any], name: str, changes: list[Callable[[Tensor], Tensor]]
) -> None:
    good: dict[str, Tensor] = {}

    def noted(**arguments: Any) -> None:
        good.update(arguments)

    original = kernel.__name__.replace("best", "best_of").replace("write", "write_entries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, original if hasattr(native, original) else kernel.__name__, noted)
        kernel()
    for change in changes:
        with pytest.raises(ShapeError):
            kernel(**{name: change(good[name])})


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("number", [-1, 2 * N, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("part", ["child", "first_panel", "length"])
@pytest.mark.parametrize("kernel", [search, screen, take_out, enter, means])
def test_a_damaged_level_is_refused(kernel: Callable[..., Any], part: str, number: int) -> None:
    """Every number that a kernel follows lies within its array; nothing is changed otherwise."""
    level = spoiled_level(part, filled(number), 8 if kernel is screen else 4)
    before = copy.deepcopy(level)
    if kernel is enter and part == "child":
        with pytest.raises(ShapeError, match="the index is damaged"):
            kernel(level=level, room=torch.ones(LISTS, dtype=torch.int64))  # lists without room are moved
    else:
        with pytest.raises(ShapeError, match="the index is damaged"):
            top = lists_of(8)[0].level
            top.child.remainder_(LISTS)
            kernel(**({"levels": [top, level]} if kernel is search else {"level": level}))
    for name in PARTS:
        assert torch.equal(getattr(level, name), getattr(before, name)), name


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("bits", [4, IN_FULL])
def test_a_search_follows_no_damaged_number(bits: int) -> None:
    for number in (-1, LISTS, 2**31 - 1):
        top = lists_of(8)[0].level
        top.child.fill_(number)
        with pytest.raises(ShapeError, match="the index is damaged"):
            search(bits, levels=[top, lists_of(bits)[0].level])
        with pytest.raises(ShapeError, match="the index is damaged"):
            search(
                levels=[spoiled_level("child", filled(N + 1 if number > 0 else number), bits)],
                probes=[],
                directions=[],
            )
    with pytest.raises(ShapeError, match="the index is damaged"):
        search(weighted=True, levels=[lists_of(8)[0].level, spoiled_level("child", filled(N))])


@pytest.mark.parametrize(
    ("kernel", "change"),
    [
        (best, {"candidate": torch.full((3, 2), N)}),
        (best, {"candidate": torch.full((3, 2), 2**40)}),
        (take_out, {"lists": torch.full((9,), LISTS)}),
        (take_out, {"lists": torch.full((9,), -1)}),
        (take_out, {"slot": torch.full((9,), 2**40)}),
        (take_out, {"slot": torch.full((9,), -1)}),
        (take_out, {"slot": torch.zeros(9, dtype=torch.int64), "lists": torch.zeros(9, dtype=torch.int64)}),
        (take_out, {"slot_of": torch.zeros(2, dtype=torch.int64)}),
        (enter, {"lists": torch.tensor([0, LISTS])}),
        (enter, {"lists": torch.tensor([-1, 0])}),
        (enter, {"child": torch.tensor([0, N + 2])}),
        (enter, {"child": torch.tensor([-1, 0])}),
        (enter, {"used": -1}),
        (enter, {"used": 10**6}),
        (
            enter,
            {
                "room": torch.full((LISTS,), 10**9),
                "lists": torch.full((40,), 3),
                "child": torch.arange(40),
            },
        ),
        (means, {"lists": torch.tensor([LISTS])}),
        (means, {"lists": torch.tensor([-1])}),
        (means, {"vectors": torch.zeros(N - 1, D), "lists": torch.tensor([3])}),
        (write, {"rows": torch.full((7,), N)}),
        (write, {"rows": torch.full((7,), -1)}),
        (write, {"slot": torch.full((7,), 10**6)}),
        (write, {"slot": torch.full((7,), -1)}),
        (write, {"lists": torch.full((7,), LISTS)}),
        (list_rows, {"begin": torch.full((2, 2), 48)}),
        (list_rows, {"begin": torch.full((2, 2), -1)}),
        (list_rows, {"size": torch.full((2, 2), -1)}),
        (list_rows, {"size": torch.full((2, 2), 9)}),
        (list_rows, {"filled": torch.full((2,), 15)}),
        (list_rows, {"filled": torch.full((2,), -1)}),
        (most_frequent, {"candidate": torch.full((3, 2), 2**31)}),
    ],
)
def test_numbers_out_of_range_are_refused(kernel: Callable[..., Any], change: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        kernel(**change)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_codes_of_another_width_are_refused(bits: int) -> None:
    level = lists_of(bits, 3 * D)[0].level
    for levels in ([level], [lists_of(8)[0].level, level]):
        with pytest.raises(ShapeError, match="features"):
            search(levels=levels, probes=[LISTS] * (len(levels) - 1), directions=[None] * (len(levels) - 1))
    with pytest.raises(ShapeError, match="features"):
        write(level=level)
