"""Independent answers, in float64 on the CPU, and the data that they are asked about."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from hmn.results import SearchResult

PACKAGES = {"faiss": "faiss", "cluster": "hmn.index.structures.cluster"}


def listed(names: list[str]) -> list[object]:
    """Parameters for the structures that there are."""
    params = []
    for name in names:
        package = PACKAGES.get(name.partition(":")[0])
        missing = package is not None and find_spec(package) is None
        params.append(pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {package}")))
    return params


def whole(seed: int, rows: int, features: int, spread: int = 3) -> Tensor:
    """Whole numbers: zero vectors, duplicates and ties are common, and all storage types hold them."""
    numbers = np.random.default_rng(seed).integers(-spread, spread + 1, (rows, features))
    return torch.from_numpy(numbers).float()


def clustered(seed: int, rows: int, queries: int, features: int = 32) -> tuple[Tensor, Tensor]:
    """Keys around 60 centres, of lengths that differ threefold, and queries around the same centres."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(60, features, generator=generator)
    keys = centre[torch.randint(60, (rows,), generator=generator)]
    keys = keys + 0.3 * torch.randn(rows, features, generator=generator)
    keys = keys * (0.5 + torch.rand(rows, 1, generator=generator))
    query = centre[torch.randint(60, (queries,), generator=generator)]
    return keys, query + 0.3 * torch.randn(queries, features, generator=generator)


def assert_best(
    result: SearchResult, query: Tensor, held: dict[int, Tensor], k: int, relative: float = 1e-5
) -> None:
    """Compare a search with the sorted inner products of the cells held; ties may be broken in any way."""
    cells = np.array(list(held), dtype=np.int64)
    b, n = len(query), len(held)
    keys = torch.stack(list(held.values())).cpu().double().numpy() if n else np.zeros((0, query.shape[1]))
    every = query.cpu().double().numpy() @ keys.T
    wanted = np.full((b, k), -np.inf)
    wanted[:, : min(k, n)] = -np.sort(-every, axis=1)[:, :k]
    score, cell = result.score.cpu().numpy(), result.cell.cpu().numpy()
    assert score.dtype == np.float32 and cell.dtype == np.int64
    assert score.shape == cell.shape == (b, k)
    size = np.abs(every).max(initial=1.0)
    np.testing.assert_allclose(score, wanted, rtol=relative, atol=relative * size)
    np.testing.assert_array_equal(cell >= 0, np.isfinite(wanted))
    order = cells.argsort()
    for row in range(b):
        used = cell[row][cell[row] >= 0]
        assert len(set(used.tolist())) == len(used)
        assert set(used.tolist()) <= set(held)
        column = order[np.searchsorted(cells[order], used)] if n else used
        np.testing.assert_allclose(
            score[row, : len(used)], every[row, column], rtol=relative, atol=relative * size
        )


def recall(result: SearchResult, query: Tensor, keys: Tensor, k: int) -> float:
    """Share of the k best cells, 0 to N - 1, that were found."""
    best = (query.double() @ keys.double().T).topk(k, dim=1).indices
    hit = (result.cell[:, :k].unsqueeze(2).cpu() == best.unsqueeze(1)).any(dim=1)
    return float(hit.double().mean())
