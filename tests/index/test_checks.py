"""What users hand over: tensors, arrays and lists work at every entry; the rest is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.index.reference import listed, whole

from hmn.errors import CellError, ConfigError, HMNError, NonFiniteError, ShapeError
from hmn.index.checks import as_ids, as_tensor, check_count, check_keys
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.index.tuning import tune

STRUCTURES = listed(["exact", "cluster", "hierarchy", "wta-hash:prefix=2", "pca-tree", "faiss:IVF2,Flat"])
KEYS = whole(1, 100, 6)


def built(name: str) -> Any:
    index = make_index(name)
    index.build(KEYS)
    return index


VECTORS: dict[str, Callable[[Any, Any], object]] = {
    "build": lambda index, odd: index.build(odd),
    "search": lambda index, odd: index.search(odd, 3),
    "add": lambda index, odd: index.add(torch.arange(200, 200 + count(odd)), odd),
    "update": lambda index, odd: index.update(torch.arange(count(odd)), odd),
    "load": lambda index, odd: index.load_state_dict(index.state_dict(with_keys=False), odd),
    "learn": lambda index, odd: (
        index.learn(odd, torch.arange(count(odd))) if hasattr(index, "learn") else ...
    ),
    "tune": lambda index, odd: tune(index, odd, 3, target_recall=0.5) if hasattr(index, "effort") else ...,
}
IDS: dict[str, Callable[[Any, Any], object]] = {
    "build": lambda index, odd: index.build(KEYS[: count(odd)], odd),
    "add": lambda index, odd: index.add(odd, KEYS[: count(odd)]),
    "update": lambda index, odd: index.update(odd, KEYS[: count(odd)]),
    "remove": lambda index, odd: index.remove(odd),
    "learn": lambda index, odd: (
        index.learn(KEYS[: count(odd)], odd) if hasattr(index, "learn") else index.remove(odd)
    ),
    "cells_in": lambda index, odd: index.cells_in(odd) if hasattr(index, "cells_in") else index.remove(odd),
}


def count(odd: Any) -> int:
    try:
        return len(odd)
    except (TypeError, RuntimeError, NotImplementedError):
        return 1


def odd_vectors() -> dict[str, Any]:
    row = KEYS[:4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that these are in beta
        nested = torch.nested.nested_tensor([row[0], row[1, :3]])
        csr = row.to_sparse_csr()
    return {
        "sparse": row.to_sparse(),
        "csr": csr,
        "nested": nested,
        "jagged": torch.nested.nested_tensor([row, row[:2]], layout=torch.jagged),
        "meta": row.to("meta"),
        "complex": row.to(torch.complex64),
        "bool": row > 0,
        "integers": row.int(),
        "float8": row.to(torch.float8_e4m3fn),
        "no features": row[:, :0],
        "0-d": row[0, 0],
        "1-d": row[0],
        "3-d": row.unsqueeze(0),
        "other features": row[:, :5].repeat(1, 2),
        "NaN": torch.full((4, 6), torch.nan),
        "objects": np.array([[None] * 6] * 4),
        "text in an array": np.array([["a"] * 6] * 4),
        "masked": np.ma.MaskedArray(row.numpy(), mask=False),
        "ragged": [[1.0, 2.0], [3.0]],
        "empty list": [],
        "text": "abc",
        "nothing": None,
        "number": 3,
        "dictionary": {1: 2},
        "set": {1.0},
        "whole numbers in an array": row.numpy().astype(int),
        "huge": [[10**400] * 6],
    }


ODD_IDS: dict[str, Any] = {
    "floats": torch.tensor([1.0]),
    "bool": torch.tensor([True]),
    "complex": torch.tensor([1j]),
    "sparse": torch.tensor([5]).to_sparse(),
    "meta": torch.tensor([5], device="meta"),
    "0-d": torch.tensor(5),
    "2-d": torch.tensor([[5]]),
    "negative": torch.tensor([-1]),
    "huge": torch.tensor([2**63 - 1]),
    "huge in a list": [2**63],
    "floats in a list": [1.5],
    "text": "5",
    "nothing": None,
    "number": 5,
    "ragged": [[1], 2],
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("entry", VECTORS)
def test_odd_vectors_are_refused_by_name_and_change_nothing(name: str, entry: str) -> None:
    index, query = built(name), whole(2, 3, 6)
    before = index.search(query, 3)
    for kind, odd in odd_vectors().items():
        if (entry, kind) == ("build", "other features"):
            continue
        try:
            done = VECTORS[entry](index, odd)
        except HMNError as error:
            assert "expected" in str(error) or "features but the memory has" in str(error), kind
        else:
            assert done is ..., f"{kind} was taken"
        for part, wanted in zip(index.search(query, 3), before, strict=True):
            torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("entry", IDS)
def test_odd_ids_are_refused_by_name_and_change_nothing(name: str, entry: str) -> None:
    query = whole(2, 3, 6)
    for kind, odd in ODD_IDS.items():
        index = built(name)
        before = index.search(query, 3)
        if (entry, kind) in [("build", "huge"), ("add", "huge"), ("build", "nothing"), ("learn", "2-d")]:
            continue  # an id like any other; no ids of one's own; a row of cells for a query
        with pytest.raises((ShapeError, CellError), match="expected"):
            IDS[entry](index, odd)
        for part, wanted in zip(index.search(query, 3), before, strict=True):
            torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


SAME: dict[str, Callable[[torch.Tensor], Any]] = {
    "array": lambda tensor: tensor.numpy(),
    "float64 array": lambda tensor: tensor.numpy().astype(float if tensor.is_floating_point() else np.uint8),
    "array of columns": lambda tensor: np.asfortranarray(tensor.numpy()),
    "array turned around": lambda tensor: tensor.numpy()[::-1].copy()[::-1],
    "array of other bytes": lambda tensor: tensor.numpy().astype(tensor.numpy().dtype.newbyteorder()),
    "lists": lambda tensor: tensor.tolist(),
    "lists of whole numbers": lambda tensor: tensor.int().tolist(),
    "tuples": lambda tensor: (
        tuple(map(tuple, tensor.tolist())) if tensor.dim() > 1 else tuple(tensor.tolist())
    ),
    "with a gradient": lambda tensor: tensor.clone().requires_grad_(tensor.is_floating_point()),
    "strided": lambda tensor: tensor.repeat_interleave(2, dim=0)[::2],
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("kind", SAME)
def test_arrays_and_lists_give_what_tensors_give(name: str, kind: str) -> None:
    as_kind, query, new, ids = SAME[kind], whole(2, 3, 6), whole(3, 4, 6), torch.arange(100, 104)
    results = []
    for convert in (torch.clone, as_kind):
        index: Any = make_index(name)
        index.build(convert(KEYS), convert(torch.arange(100)))
        index.add(convert(ids), convert(new))
        index.update(convert(torch.arange(4)), convert(new))
        index.remove(convert(torch.arange(50, 60)))
        if hasattr(index, "learn"):
            index.learn(convert(query), convert(torch.arange(3)))
        if hasattr(index, "effort"):
            tune(index, convert(query), 3, target_recall=0.5)
        results.append(index.search(convert(query), np.int64(3)))
    for part, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", STRUCTURES)
def test_empty_lists_are_no_cells(name: str) -> None:
    index = built(name)
    index.remove([])
    index.add([], np.empty((0, 6), np.float32))
    index.update(np.empty(0, int), torch.empty(0, 6))
    assert len(index) == 100
    assert index.search(np.empty((0, 6)), 3).cell.shape == (0, 3)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("k", [0, -1, 1.0, 1.5, "3", None, True, 2**31, 2**63, -(2**63), [3], torch.ones(2)])
def test_k_that_is_no_count_is_refused(name: str, k: Any) -> None:
    with pytest.raises(ConfigError, match=r"k is .*, expected a whole number of at least 1"):
        built(name).search(whole(2, 3, 6), k)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("k", [3, np.int64(3), np.uint8(3), np.int32(200)])
def test_k_may_be_a_number_of_numpy(name: str, k: Any) -> None:
    assert built(name).search(whole(2, 3, 6), k).cell.shape == (3, int(k))


def test_an_array_is_shared_and_lists_are_copied() -> None:
    array = np.ones((3, 2), np.float32)
    assert as_tensor(array, "keys").data_ptr() == array.ctypes.data
    array.setflags(write=False)
    assert as_tensor(array, "keys").data_ptr() == array.ctypes.data
    assert as_tensor([[1, 2]], "keys", floats=True).dtype == torch.float32
    assert as_tensor([[1, 2]], "cells").dtype == torch.int64
    assert as_ids(range(3)).tolist() == [0, 1, 2]
    assert check_keys([[1, 2]]).tolist() == [[1.0, 2.0]]
    assert type(check_count("count", np.int32(3))) is int


def test_the_default_type_of_pytorch_changes_no_list() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert as_tensor([[1.1]], "keys", floats=True).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("given", [torch.tensor([[1e39, 1.0]], dtype=torch.float64), [[1e39, 1.0]]])
def test_a_query_beyond_float32_is_too_long_and_not_infinite(given: Any) -> None:
    with pytest.raises(NonFiniteError, match=r"query: row 0 has length 1e\+39"):
        ExactIndex(torch.eye(2)).search(given, 1)
