"""Faiss proposes, our keys decide; cells come and go whatever kind of index it is."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.reference import assert_best, clustered, recall, whole
from torch import Tensor

from hmn.errors import ConfigError, ShapeError

faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")

from hmn.index.structures.faiss import FaissIndex  # noqa: E402

IVF = "IVF16,Flat"
KINDS = [
    IVF,
    "IVF16,SQ8",
    "IVF16,PQ8x4fs",
    "Flat",
    "SQ8",
    "HNSW8",
    "IVF16,SQ8,RFlat",
    "NSG8",
    "PCA16,IVF16,Flat",
]


def removed_at_once(factory: str) -> bool:
    return not ("HNSW" in factory or "NSG" in factory or "RFlat" in factory)


@pytest.mark.parametrize("factory", KINDS)
def test_scores_are_exact_and_in_order_for_every_kind(factory: str) -> None:
    keys, query = clustered(0, 1000, 30)
    index = FaissIndex(factory, rescore=3)
    index.build(keys)
    result = index.search(query, 10)
    assert index.stats()["stands_in"] == "no"
    assert bool((result.score.diff(dim=1) <= 0).all())
    every = query.double() @ keys.double().T
    held = result.cell >= 0
    wanted = every.gather(1, result.cell.clamp(min=0))
    torch.testing.assert_close(result.score[held].double(), wanted[held], rtol=1e-5, atol=1e-5)
    assert recall(result, query, keys, 10) > 0.1


@pytest.mark.parametrize("factory", [kind for kind in KINDS if kind != "NSG8"])
@settings(max_examples=8, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from("aruus"), st.integers(0, 9), st.integers(1, 40)), min_size=1, max_size=8
    )
)
def test_cells_come_and_go_in_every_kind(factory: str, changes: list[tuple[str, int, int]]) -> None:
    keys = clustered(0, 300, 1, features=16)[0]
    held = dict(enumerate(keys.clone()))
    factory = factory.replace("PCA16", "PCA8")
    index = FaissIndex(factory, num_probes=16 if "IVF" in factory else None)
    index.build(keys)
    assert index.stats()["removes"] == ("at once" if removed_at_once(factory) else "by masking")
    for number, (kind, first, count) in enumerate(changes):
        cells = torch.arange(first, 400, 400 // count)
        cells = cells[
            torch.tensor([(int(cell) in held) != (kind == "a") for cell in cells], dtype=torch.bool)
        ]
        new = clustered(number, len(cells), 1, features=16)[0]
        if kind == "a":
            index.add(cells, new)
        elif kind == "u":
            index.update(cells, new)
        elif kind == "r":
            index.remove(cells)
            held = {cell: key for cell, key in held.items() if cell not in set(cells.tolist())}
        if kind in "au":
            held.update(zip(cells.tolist(), new, strict=True))
        check(index, held)
    again = FaissIndex(factory, num_probes=16 if "IVF" in factory else None)
    again.load_state_dict(index.state_dict())
    check(again, held)


def test_a_graph_that_takes_no_more_is_built_again() -> None:
    keys = clustered(0, 150, 1, features=16)[0]
    held = dict(enumerate(keys.clone()))
    index = FaissIndex("NSG8")
    index.build(keys)
    index.remove(torch.arange(100))  # NSG needs 100 cells
    check(index, {cell: key for cell, key in held.items() if cell >= 100})
    assert "smaller than 100" in str(index.stats()["stands_in"])
    for start in (0, 50):
        cells = torch.arange(start, start + 50)
        index.add(cells, torch.stack([held[cell] for cell in cells.tolist()]))
    check(index, held)
    assert index.stats()["stands_in"] == "no"
    new = 3 * clustered(1, 9, 1, features=16)[0]
    index.add(torch.arange(500, 509), new)
    assert index.search(new, 1).cell.squeeze(1).tolist() == (500 + (new @ new.T).argmax(dim=1)).tolist()


def check(index: FaissIndex, held: dict[int, Tensor]) -> None:
    """What is found are cells that are held, scored by the keys that they have, and many of the best."""
    cells = list(held)[:5]
    query = torch.stack([held[cell] for cell in cells])
    result = index.search(query, 8)
    if index.factory in ("Flat", IVF):
        assert_best(result, query, held, 8)
    hits, used = 0, result.cell[result.cell >= 0].tolist()
    assert set(used) <= set(held)
    assert torch.equal(result.cell < 0, result.score == -torch.inf)
    every = query @ torch.stack(list(held.values())).T
    for row in range(len(cells)):
        line = [cell for cell in result.cell[row].tolist() if cell >= 0]
        assert len(set(line)) == len(line)
        for cell, score in zip(line, result.score[row].tolist(), strict=False):
            assert score == pytest.approx(float(query[row] @ held[cell]), rel=1e-4, abs=1e-4)
        best = {list(held)[at] for at in every[row].topk(8).indices.tolist()}
        hits += len(best & set(line))
    assert hits > 0.25 * 8 * len(cells)


def test_agrees_with_faiss_itself() -> None:
    keys, query = clustered(0, 2000, 50)
    index = FaissIndex(IVF, num_probes=3)
    index.build(keys)
    other = faiss.index_factory(32, IVF, faiss.METRIC_INNER_PRODUCT)
    other.cp.seed = 0
    other.nprobe = 3
    other.train(keys.numpy())
    other.add(keys.numpy())
    score, cell = other.search(query.numpy(), 10)
    result = index.search(query, 10)
    assert np.array_equal(result.cell.numpy(), cell)
    np.testing.assert_allclose(result.score.numpy(), score, rtol=1e-5, atol=1e-5)


def test_the_seed_is_that_of_the_clustering() -> None:
    keys, centroid = clustered(0, 1000, 1)[0], []
    for seed in (1, 1, 2):
        index = FaissIndex(IVF, seed=seed)
        index.build(keys)
        centroid.append(faiss.extract_index_ivf(index._parts.vectors.index).quantizer.reconstruct_n(0, 16))
    assert np.array_equal(centroid[0], centroid[1]) and not np.array_equal(centroid[0], centroid[2])


def test_more_probes_and_rescoring_find_more() -> None:
    keys, query = clustered(0, 3000, 100)
    index = FaissIndex("IVF60,PQ8x4", num_probes=1)
    index.build(keys)
    recalls = []
    for index.num_probes, index.rescore in ((1, 1), (20, 1), (20, 20)):
        recalls.append(recall(index.search(query, 10), query, keys, 10))
    assert recalls[0] < recalls[2] - 0.1 and recalls[1] < recalls[2] - 0.1
    graph = FaissIndex("HNSW4", ef_search=1)
    graph.build(keys)
    few = recall(graph.search(query, 10), query, keys, 10)
    graph.ef_search = 400
    assert recall(graph.search(query, 10), query, keys, 10) > few + 0.05


def test_a_flat_index_stands_in_until_there_are_enough_cells() -> None:
    keys, query = whole(0, 64, 8), whole(1, 4, 8)
    index = FaissIndex("IVF16,Flat", num_probes=16)
    index.build(keys[:0])
    assert "no cells yet" in str(index.stats()["stands_in"])
    held: dict[int, Tensor] = {}
    for start in range(0, 64, 7):
        cells = torch.arange(start, min(64, start + 7))
        index.add(cells, keys[cells])
        held.update(zip(cells.tolist(), keys[cells], strict=True))
        assert_best(index.search(query, 9), query, held, 9)
        if start == 7:
            assert "training points" in str(index.stats()["stands_in"])
    assert index.stats()["stands_in"] == "no"
    again = FaissIndex("IVF16,Flat", num_probes=16)
    again.build(keys[:5])
    state = again.state_dict()
    index.load_state_dict(state)
    assert "too few" in str(index.stats()["stands_in"])
    assert_best(index.search(query, 5), query, dict(enumerate(keys[:5])), 5)


@pytest.mark.parametrize(
    ("factory", "more", "said"),
    [
        ("Nonsense", {}, "cannot make 'Nonsense' for 32 features: could not parse"),
        ("IVF16,PQ7", {}, "cannot make 'IVF16,PQ7' for 32 features"),
        ("HNSW8", {"num_probes": 3}, "num_probes is 3 but 'HNSW8' has no nprobe"),
        ("Flat", {"ef_search": 3}, "ef_search is 3 but 'Flat' has no efSearch"),
    ],
)
def test_what_faiss_cannot_do_is_refused_when_it_is_built(
    factory: str, more: dict[str, int], said: str
) -> None:
    index = FaissIndex(factory, **more)
    with pytest.raises(ConfigError, match=said):
        index.build(torch.zeros(3, 32))
    assert len(index) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"factory": ""}, "factory"),
        ({"factory": "IDMap2,Flat"}, "without IDMap"),
        ({"num_probes": 0}, "num_probes is 0"),
        ({"ef_search": 2.5}, "ef_search is 2.5"),
        ({"rescore": 0.5}, "rescore is 0.5"),
        ({"rescore": "x"}, "rescore is 'x'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FaissIndex(**more)  # type: ignore[arg-type]


@pytest.mark.parametrize("factory", [IVF, "HNSW8"])
def test_damaged_states_are_refused_and_change_nothing(factory: str) -> None:
    keys, query = clustered(0, 100, 3)
    index = FaissIndex(factory)
    index.build(keys)
    before = index.search(query, 5)
    state = index.state_dict()
    twice, other = state["faiss.row_at"].clone(), FaissIndex(factory)
    twice[3] = twice[4]
    other.build(keys[:90])
    for bad in (
        {"faiss.index": state["faiss.index"][:200]},
        {"faiss.index": torch.zeros(50, dtype=torch.uint8)},
        {"faiss.index": other.state_dict()["faiss.index"]},
        {"faiss.row_at": twice},
        {"faiss.row_at": state["faiss.row_at"][:50]},
        {"faiss.row_at": torch.cat([torch.tensor([-1]), state["faiss.row_at"]])},
        {"faiss.row_at": state["faiss.row_at"].int()},
        {"faiss.row_at": state["faiss.row_at"] + 1},
        {"faiss.tried": torch.tensor(2**40)},
        {"faiss.tried": torch.tensor(1.5)},
    ):
        with pytest.raises(ShapeError, match="faiss"):
            index.load_state_dict({**state, **bad})
    assert torch.equal(index.search(query, 5).cell, before.cell)


def test_faiss_and_torch_share_a_process() -> None:
    script = """
import torch
before = (torch.randn(300, 300) @ torch.randn(300, 300)).sum()
from hmn.index.structures.faiss import FaissIndex  # noqa: E402
keys = torch.randn(2000, 64)
index = FaissIndex("IVF16,Flat", num_probes=4)
index.build(keys)
for _ in range(3):
    found = index.search(keys[:200], 3)
    keys = keys + 0 * (torch.randn(500, 500) @ torch.randn(500, 500)).sum()
print(bool((found.cell[:, 0] >= 0).all()))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "True" and "OMP" not in ran.stderr


def test_stats_give_the_probes_that_were_asked_for() -> None:
    index = FaissIndex("IVF4,Flat")
    index.build(clustered(0, 300, 1)[0])
    assert index.stats()["num_probes"] == "as faiss has it"
    index.num_probes = 3
    assert index.stats()["num_probes"] == 3
