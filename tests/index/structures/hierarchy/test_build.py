"""A hierarchy is built within the memory that there is."""

from __future__ import annotations

import pytest
import torch
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor

from hmn.index.clustering.split_kmeans import divide
from hmn.index.structures.hierarchy import build, upkeep
from hmn.index.structures.hierarchy.index import HierarchicalIndex

MOST_COSINES = 1 << 25
"""128 MiB of float32."""


class Seen(Exception):  # noqa: N818
    """Ends a build where the test has seen enough."""


def cosines_of(part: Tensor, pieces: Tensor) -> int:
    """Members times pieces of the part that needs most."""
    return int((torch.bincount(part) * pieces).max())


def test_a_group_of_many_equal_cells_is_divided_into_fewer_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "COSINES", 1 << 11)
    seen = []

    def noted(points: Tensor, part: Tensor, pieces: Tensor, **settings: object) -> Tensor:
        seen.append(pieces.tolist())
        return divide(points, part, pieces, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "divide", noted)
    index = HierarchicalIndex("2x40")
    index.build(torch.zeros(200, 4))  # all of them are in one group of the first tier
    assert seen == [[10]]  # 10 * 200 cosines are the most that the limit allows
    assert_sound(index)
    seen.clear()
    index = HierarchicalIndex("2x20")
    index.build(torch.zeros(1_200, 4))
    assert seen == [[2]]  # more than the limit allows, but fewer would part nothing
    assert_sound(index)


def test_cosines_of_a_group_take_little_memory_when_it_is_built_and_when_it_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def noted(points: Tensor, part: Tensor, pieces: Tensor, **settings: object) -> Tensor:  # noqa: ARG001
        seen.append(cosines_of(part, pieces))
        raise Seen

    monkeypatch.setattr(build, "divide", noted)
    with pytest.raises(Seen):  # 8,000 pieces of 100,000 cells would be 3 GiB
        HierarchicalIndex("2x8000").build(torch.zeros(100_000, 2))
    index = HierarchicalIndex("1")
    index.build(torch.zeros(10, 2))
    monkeypatch.setattr(upkeep, "divide", noted)
    with pytest.raises(Seen):  # 6,666 pieces of 100,010 cells
        index.add(torch.arange(10, 100_010), torch.zeros(100_000, 2))
    assert len(seen) == 2 and max(seen) <= MOST_COSINES
