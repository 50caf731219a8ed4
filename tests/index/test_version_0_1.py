"""Index states that version 0.1 saved are read, search the same, and can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.index.structures.hierarchy.sound import assert_sound
from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.structures.base import Structure

FOLDER = Path(__file__).parents[1] / "data" / "version-0.1"
FOUND: dict[str, dict[str, Any]] = json.loads((FOLDER / "index-found.json").read_text(encoding="utf-8"))
MADE_AGAIN = [name for name in FOUND if name.startswith("hierarchy")]
QUERY = load_file(FOLDER / "index-input.safetensors")["query"]


def assert_found(index: Index, name: str) -> None:
    cell, score = (torch.tensor(FOUND[name][part]) for part in ("cell", "score"))
    result = index.search(QUERY, cell.shape[1])
    assert bool((result.cell >= 0).all()) and bool((result.score >= score - 1e-5).all())
    assert isinstance(index, Structure)
    index.fills = False  # version 0.1 left places empty where buckets or lists were short
    result = index.search(QUERY, cell.shape[1])
    index.fills = True
    assert torch.equal(result.cell, cell)
    torch.testing.assert_close(result.score, score, rtol=1e-5, atol=1e-5)


def assert_made_again(name: str, state: dict[str, Tensor], keys: Tensor | None) -> None:
    """Only cells and keys of the state are read; the index finds most of the best and can be changed."""
    index, again = make_index(name), make_index(name)
    with pytest.warns(UserWarning, match="413 cells are made again") as warned:
        index.load_state_dict(state, keys)
    assert len(warned) == 1
    best = torch.tensor(FOUND["exact"]["cell"])
    result = index.search(QUERY, best.shape[1])
    least = 0.9 if name == "hierarchy" else 0.5
    assert float((result.cell.unsqueeze(2) == best.unsqueeze(1)).any(dim=1).double().mean()) >= least
    again.load_state_dict(index.state_dict())
    assert torch.equal(again.search(QUERY, 5).cell, index.search(QUERY, 5).cell)
    cell = state["rows.cell"]
    index.remove(cell[cell >= 0][:400])
    index.add(torch.tensor([99_999]), torch.full((1, QUERY.shape[1]), 9.0))
    assert_sound(index)  # type: ignore[arg-type]
    assert len(index) == 14


def test_every_file_is_tried() -> None:
    files = {path.name for path in FOLDER.glob("index-*.safetensors")} - {"index-input.safetensors"}
    assert files == {found["file"] for found in FOUND.values()}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("with_keys", [True, False])
def test_a_state_searches_the_same(name: str, with_keys: bool) -> None:
    state: dict[str, Tensor] = load_file(FOLDER / FOUND[name]["file"])
    assert "rows.checksum" not in state
    index, again = make_index(name), make_index(name)
    keys = None if with_keys else state["rows.keys"].clone()
    if name in MADE_AGAIN:
        assert_made_again(name, state, keys)
        return
    index.load_state_dict(state, keys)
    assert_found(index, name)
    saved = index.state_dict()
    assert set(saved) == set(state) | {"rows.checksum"}
    assert all(torch.equal(saved[part], state[part]) for part in state)
    again.load_state_dict({part: tensor.clone() for part, tensor in saved.items()})
    assert_found(again, name)
    added = torch.full((1, QUERY.shape[1]), 9.0)
    again.add(torch.tensor([99_999]), added)
    assert again.search(added, 1).cell.tolist() == [[99_999]]
