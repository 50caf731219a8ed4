"""Index states that version 0.1 saved are read, search the same, and can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hmn.index.protocol import Index
from hmn.index.registry import make_index
from hmn.index.structures.base import Structure

FOLDER = Path(__file__).parents[1] / "data" / "version-0.1"
FOUND: dict[str, dict[str, Any]] = json.loads((FOLDER / "index-found.json").read_text(encoding="utf-8"))
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


def test_every_file_is_tried() -> None:
    files = {path.name for path in FOLDER.glob("index-*.safetensors")} - {"index-input.safetensors"}
    assert files == {found["file"] for found in FOUND.values()}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("with_keys", [True, False])
def test_a_state_searches_the_same(name: str, with_keys: bool) -> None:
    state: dict[str, Tensor] = load_file(FOLDER / FOUND[name]["file"])
    assert "rows.checksum" not in state
    index, again = make_index(name), make_index(name)
    index.load_state_dict(state, None if with_keys else state["rows.keys"].clone())
    assert_found(index, name)
    saved = index.state_dict()
    assert set(saved) == set(state) | {"rows.checksum"}
    assert all(torch.equal(saved[part], state[part]) for part in state)
    again.load_state_dict({part: tensor.clone() for part, tensor in saved.items()})
    assert_found(again, name)
    added = torch.full((1, QUERY.shape[1]), 9.0)
    again.add(torch.tensor([99_999]), added)
    assert again.search(added, 1).cell.tolist() == [[99_999]]
