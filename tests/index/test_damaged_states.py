"""States whose tensors are damaged: refused by name, or loaded as an index that works."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.index.reference import assert_best, whole
from torch import Tensor

from hmn.errors import HMNError, NonFiniteError, ShapeError
from hmn.index.registry import make_index

pytestmark = pytest.mark.usefixtures("every_group_entered")

STRUCTURES = [
    "exact",
    "cluster:num_clusters=7,num_probes=7,codes=int8,rescore=100000,reduction=one-column",
    "cluster:num_clusters=3x9,num_probes=3x9,codes=none",
    "hierarchy:num_groups=9,reach=999,rescore=100000",
    "wta-hash:num_tables=2,num_permutations=2,prefix=1",
    "wta-hash:num_tables=3,num_permutations=1,prefix=2,num_probes=2,reduction=paper",
    "pca-tree:leaf_size=4,num_leaves=100000",
]
OPTIONAL = ("rows.checksum", "rows.keys", "measured")
"""Parts that a state may lack."""
HUGE = {torch.int64: 2**40, torch.int32: 2**30, torch.uint8: 255}
"""A number that leads far outside, by type."""
OTHER_TYPES = (torch.uint8, torch.int32, torch.int64, torch.float32, torch.bool)


def saved_index(name: str) -> tuple[Any, dict[str, Tensor]]:
    """An index after many changes, and its state."""
    index: Any = make_index(name)
    index.build(whole(1, 120, 6), torch.arange(120) * 3)
    index.remove(torch.arange(0, 90, 3))
    index.add(torch.arange(1, 61, 3), whole(2, 20, 6))
    index.update(torch.arange(90, 150, 3), whole(3, 20, 6))
    index.search(whole(4, 3, 6), 5)
    return index, {part: tensor.clone() for part, tensor in index.state_dict().items()}


def wrong_whole_numbers(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    huge, limits = HUGE[tensor.dtype], torch.iinfo(tensor.dtype)
    for number in (-2, -1, 0, huge, limits.max):
        if limits.min <= number:
            for where in (slice(None), slice(-1, None)):
                changed = tensor.clone()
                changed.view(-1)[where] = number
                yield f"{number} at {where.start}:{where.stop}", changed
    yield "one more", tensor + 1
    yield "one less", tensor - 1
    if tensor.numel() > 1:
        flat = tensor.flatten()
        yield "all as the first", flat[:1].expand_as(flat).reshape(tensor.shape).clone()
        yield "turned around", flat.flip(0).reshape(tensor.shape)
        yield "moved on", flat.roll(1).reshape(tensor.shape)
        changed = flat.clone()
        changed[[0, -1]] = flat[[-1, 0]]
        yield "two swapped", changed.reshape(tensor.shape)


def wrong_floats(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    for number in (math.nan, -math.inf, 1e38, -1.0, 0.0):
        for where in (slice(None), slice(-1, None)):
            changed = tensor.clone()
            changed.view(-1)[where] = number
            yield f"{number} at {where.start}", changed
    if tensor.numel() > 1:
        yield "turned around", tensor.flatten().flip(0).reshape(tensor.shape)


def damaged(tensor: Tensor) -> Iterator[tuple[str, Any]]:
    """What a tensor can be damaged into."""
    for dtype in OTHER_TYPES:
        if dtype != tensor.dtype:
            yield f"as {dtype}", tensor.to(dtype)
    if tensor.dim():
        yield "empty", tensor[:0]
        yield "cut", tensor[:-1]
        yield "too long", torch.cat([tensor, tensor[-1:]])
        yield "flat", tensor.reshape(-1, 1)
    yield "with one more dimension", tensor.unsqueeze(0)
    yield "sparse", tensor.to_sparse()
    yield "without numbers", tensor.to("meta")
    yield "a word", "word"
    yield "nothing", None
    if tensor.numel():
        yield from (wrong_floats if tensor.is_floating_point() else wrong_whole_numbers)(tensor)


def works(index: Any, name: str) -> None:
    """Search and change an index, and compare it with what its state says that it holds."""
    query, new = whole(4, 3, 6), whole(5, 40, 6)
    state = index.state_dict()
    keys = state["rows.keys"].clone()
    cell = state.get("rows.cell", torch.arange(len(keys))).clone()
    held = dict(zip(cell[cell >= 0].tolist(), keys[cell >= 0], strict=True))
    for step in (1, 2, 3, 4):
        some = list(held)[::step]
        if step == 1:
            index.add(torch.arange(10**6, 10**6 + 40), new)
            held.update(zip(range(10**6, 10**6 + 40), new, strict=True))
        elif step == 2:
            index.update(torch.tensor(some), whole(6, len(some), 6))
            held.update(zip(some, whole(6, len(some), 6), strict=True))
        elif step == 3:
            index.remove(torch.tensor(some))
            held = {cell: key for cell, key in held.items() if cell not in some}
        elif step == 4:
            index.build(torch.stack(list(held.values())), torch.tensor(list(held)))
        result = index.search(query, 7)
        if "prefix=2" not in name:
            assert_best(result, query, held, 7)
        for cells, scores, each in zip(result.cell.tolist(), result.score, query, strict=True):
            wanted = torch.stack([held[one] for one in cells if one >= 0]) @ each
            torch.testing.assert_close(scores[: len(wanted)], wanted)


PARTS = [(name, part) for name in STRUCTURES for part in saved_index(name)[1]]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_damaged_tensor_is_refused_or_does_no_harm(name: str, part: str) -> None:
    index, state = saved_index(name)
    query, refused = whole(4, 3, 6), 0
    before = index.search(query, 7)
    for how, wrong in damaged(state[part]):
        bad, other = {**state, part: wrong}, make_index(name)
        try:
            other.load_state_dict(bad)
        except (ShapeError, NonFiniteError) as error:
            refused += 1
            assert "expected" in str(error), how
            with contextlib.suppress(HMNError):
                index.load_state_dict(bad)
            for got, wanted in zip(index.search(query, 7), before, strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=0, msg=how)
        else:
            works(other, name)
    assert refused


@pytest.mark.parametrize("state", [None, [], "state", {}, {1: 2}, {"rows.used": 3}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    for name in STRUCTURES:
        with pytest.raises(ShapeError, match=r"expected a (dictionary|tensor)|the state has no rows.used"):
            make_index(name).load_state_dict(state)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_state_without_one_of_its_tensors_is_refused(name: str) -> None:
    index, state = saved_index(name)
    for part in state:
        if part not in OPTIONAL:
            with pytest.raises(ShapeError, match="expected"):
                index.load_state_dict({each: tensor for each, tensor in state.items() if each != part})


@pytest.mark.parametrize(
    ("saved", "loaded"), [("num_clusters=3x9", "num_clusters=9"), ("seed=0", "num_clusters=3x9")]
)
def test_clusters_of_another_number_of_levels_are_refused(saved: str, loaded: str) -> None:
    state = saved_index(f"cluster:{saved},num_probes=1")[1]
    with pytest.raises(ShapeError, match=r"has [12] levels of clusters, expected [12]: make the index with"):
        make_index(f"cluster:{loaded}").load_state_dict(state)
