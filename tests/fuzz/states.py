"""Index states with damaged numbers: refused by name, or loaded into an index that works."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from tests.fuzz.operations import KINDS, STRUCTURES, TYPES, vectors
from torch import Tensor

from hmn.errors import HMNError
from hmn.index.protocol import Index
from hmn.index.registry import make_index

CASES = 200
"""Damaged states per batch."""
NUMBERS = (0, 1, -1, 2, 7, 10**6, 2**31 - 1, 2**31, 2**40, -(2**31), -(2**63), 2**63 - 1)
"""Numbers that are written into tensors of whole numbers."""
FLOATS = (0.0, 1.0, -1.0, 1e30, -1e38, 1e-42, float("inf"), float("nan"))
"""Numbers that are written into tensors of floats."""
OTHER_TYPES = (torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float64, torch.bool)
"""Types that tensors are changed to."""
K = 5
"""Results per query."""


def batch(seed: int) -> None:
    """Damage states, load them, and use the index."""
    random = np.random.default_rng(seed)
    for _ in range(CASES):
        structure = STRUCTURES[random.integers(len(STRUCTURES))]
        index, keys = changed_index(structure, random)
        # a checksum would refuse many damaged keys before the check that is tried here
        state = {name: tensor.clone() for name, tensor in index.state_dict().items()}
        del state["rows.checksum"]
        done = [damage(state, random) for _ in range(random.integers(1, 3))]
        try:
            use(structure, state, keys.shape[1], random)
        except Exception as error:
            error.add_note(f"{structure}, {', '.join(done)}")
            raise


def changed_index(structure: str, random: np.random.Generator) -> tuple[Index, Tensor]:
    """An index that was built, and perhaps changed; and its first keys."""
    count, features = int(random.integers(1, 80)), int(random.integers(3, 17))
    kind, seed = str(random.choice(KINDS)), int(random.integers(2**31))
    keys = vectors(kind, seed, count, features).to(TYPES[random.integers(len(TYPES))])
    index = make_index(structure)
    index.build(keys)
    if random.integers(2):
        removed = torch.from_numpy(random.permutation(count)[: count // 3])
        index.remove(removed)
        index.add(1000 + removed[: count // 6], keys[: len(removed[: count // 6])])
    return index, keys


def damage(state: dict[str, Tensor], random: np.random.Generator) -> str:
    """Damage one tensor of a state in place; returns what was done."""
    name = str(random.choice(sorted(state)))
    way = WAYS[random.integers(len(WAYS))]
    damaged = way(state[name], random)
    if damaged is None:
        del state[name]
    else:
        state[name] = damaged
    return f"{name}: {way.__name__}"


def number_for(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """A number of a tensor's type, often one that does not belong there."""
    if tensor.is_floating_point():
        return torch.tensor(FLOATS[random.integers(len(FLOATS))], dtype=torch.float64).to(tensor.dtype)
    return torch.tensor(NUMBERS[random.integers(len(NUMBERS))]).to(tensor.dtype)


def one_number(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Overwrite one number."""
    damaged = tensor.clone(memory_format=torch.contiguous_format)
    if damaged.numel():
        damaged.view(-1)[random.integers(damaged.numel())] = number_for(tensor, random)
    return damaged


def all_numbers(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Overwrite all numbers."""
    return torch.zeros_like(tensor) + number_for(tensor, random)


def off_by_one(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Add or subtract 1 in one place."""
    damaged = tensor.clone(memory_format=torch.contiguous_format)
    if damaged.numel() and damaged.dtype != torch.bool:
        damaged.view(-1)[random.integers(damaged.numel())] += 1 if random.integers(2) else -1
    return damaged


def other_type(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Convert to another type."""
    return tensor.to(OTHER_TYPES[random.integers(len(OTHER_TYPES))])


def shorter(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Leave out the end."""
    return tensor[: random.integers(len(tensor) + 1)] if tensor.dim() else tensor


def longer(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Repeat the beginning at the end."""
    return torch.cat([tensor, tensor[: random.integers(1, 9)]]) if tensor.dim() else tensor.reshape(1)


def other_shape(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Flatten, transpose, or add a dimension."""
    shapes = (tensor.reshape(-1), tensor.unsqueeze(0), tensor.unsqueeze(-1), tensor.movedim(0, -1))
    return shapes[random.integers(4 if tensor.dim() else 3)]


def shuffled(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Change the order of rows."""
    return tensor[torch.from_numpy(random.permutation(len(tensor)))] if tensor.dim() else tensor


def repeated(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """Write one row over another."""
    damaged = tensor.clone(memory_format=torch.contiguous_format)
    if tensor.dim() and len(tensor):
        damaged[random.integers(len(tensor))] = damaged[random.integers(len(tensor))].clone()
    return damaged


def missing(tensor: Tensor, random: np.random.Generator) -> None:
    """Leave the tensor out."""


WAYS: tuple[Callable[[Tensor, np.random.Generator], Tensor | None], ...] = (
    *(one_number, all_numbers, off_by_one, other_type, shorter, longer, other_shape, shuffled, repeated),
    missing,
)
"""Ways to damage a tensor; None leaves it out."""


def use(structure: str, state: dict[str, Tensor], features: int, random: np.random.Generator) -> None:
    """Load a damaged state; if it is accepted, the index answers, and changes as any other does."""
    index = make_index(structure)
    own = vectors("gaussian", 0, 9, features)
    index.build(own)
    try:
        index.load_state_dict(state)
    except HMNError:
        assert len(index) == len(own), "a refused state has changed the index"
        assert sorted(index.search(own[:1], 9).cell[0].tolist()) == list(range(9))
        return
    cells = torch.tensor([10**7, 10**7 + 1])
    features = state["rows.keys"].shape[1]
    keys = vectors("gaussian", int(random.integers(2**31)), 2, features)
    index.search(keys, K)
    index.add(cells, keys)
    index.update(cells, keys.flip(0))
    result = index.search(keys, K)
    index.remove(cells[:1])
    index.state_dict()
    index.stats()
    named = result.cell[result.cell >= 0]
    found = index.search(keys, len(index)).cell
    assert not bool((found == cells[0]).any()), "a removed cell is found"
    assert len(named) >= min(K, len(index)), "a place is empty"
    for row in result.cell.tolist():
        used = [cell for cell in row if cell >= 0]
        assert len(set(used)) == len(used), "a cell is found twice"
