"""Random sequences of what can be done with an index, compared with float64 arithmetic after each."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor

from hmn.errors import CellError
from hmn.index.protocol import Index, Teachable, Tunable
from hmn.index.registry import make_index
from hmn.index.tuning import tune

STRUCTURES = [
    "exact",
    "cluster",
    "cluster:num_clusters=3x9,codes=int8,reduction=one-column",
    "cluster:num_clusters=5,num_probes=1,codes=none",
    "hierarchy",
    "hierarchy:num_groups=9x5,codes=int4,rescore=1,parts=8",
    "wta-hash:num_tables=2,num_permutations=2,prefix=3",
    "pca-tree:leaf_size=3,num_leaves=2,reduction=paper",
]
"""Structures, some of them with settings under which little is found at once."""
KINDS = ("gaussian", "whole", "repeated", "uneven", "far", "zero")
"""Kinds of keys; see ``vectors``."""
TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types in which keys are kept."""
DEFAULT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Default types of PyTorch around a call."""
MOST_CELLS = 120
"""Upper limit of cells that an index is built on."""
EXACT_EFFORT = ("exact", "hierarchy")
"""Structures that find everything at their greatest effort."""

seeds = st.integers(0, 2**32 - 1)


def vectors(kind: str, seed: int, count: int, features: int) -> Tensor:
    """Vectors ``(count, features)`` that all storage types hold."""
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((count, features))
    if kind == "whole":
        drawn = np.round(2 * drawn)
    elif kind == "repeated":
        drawn = np.round(drawn[: max(1, count // 8)])[random.integers(max(1, count // 8), size=count)]
    elif kind == "uneven":
        drawn *= np.exp(2 * random.standard_normal((count, 1))).clip(max=1000)
    elif kind == "far":
        drawn += 20
    elif kind == "zero":
        drawn *= 0
    return torch.from_numpy(drawn).float()


class Operations(RuleBasedStateMachine):
    """An index, and beside it a dictionary of the keys that it should hold."""

    index: Index

    @initialize(
        structure=st.sampled_from(STRUCTURES),
        kind=st.sampled_from(KINDS),
        storage=st.sampled_from(TYPES),
        count=st.integers(0, MOST_CELLS),
        features=st.integers(3, 24),
        own_cells=st.booleans(),
        seed=seeds,
    )
    def build(
        self,
        structure: str,
        kind: str,
        storage: torch.dtype,
        count: int,
        features: int,
        own_cells: bool,
        seed: int,
    ) -> None:
        """Build the index."""
        self.text, self.storage, self.kind, self.features = structure, storage, kind, features
        keys = vectors(kind, seed, count, features).to(storage)
        cells = np.random.default_rng(seed).permutation(3 * count)[:count] if own_cells else np.arange(count)
        self.held = {int(cell): key.clone() for cell, key in zip(cells, keys, strict=True)}
        self.given, self.given_before = keys, keys.clone()
        index = make_index(structure)
        index.build(keys, torch.from_numpy(cells) if own_cells else None)
        self.index = index

    @rule(count=st.integers(0, 12), seed=seeds, from_given=st.booleans())
    def add(self, count: int, seed: int, from_given: bool) -> None:
        """Add cells, removed ones among them; the keys may be rows of those that the index was built on."""
        random = np.random.default_rng(seed)
        free = np.setdiff1d(np.arange(3 * MOST_CELLS), list(self.held))
        cells = random.permutation(free)[:count]
        keys = self._drawn(seed, len(cells))
        if from_given and len(cells) <= len(self.given):
            start = int(random.integers(len(self.given) - len(cells) + 1))
            keys = self.given[start : start + len(cells)]
        self.index.add(torch.from_numpy(cells), keys)
        self.held |= {int(cell): key.clone() for cell, key in zip(cells, keys, strict=True)}

    @rule(count=st.integers(0, 12), seed=seeds)
    def remove(self, count: int, seed: int) -> None:
        """Remove some cells."""
        cells = self._chosen(count, seed)
        self.index.remove(cells)
        for cell in cells.tolist():
            del self.held[cell]

    @rule(seed=seeds, left=st.integers(0, 3))
    def remove_nearly_all(self, seed: int, left: int) -> None:
        """Remove all cells but a few."""
        self.remove(max(0, len(self.held) - left), seed)

    @rule(count=st.integers(0, 12), seed=seeds, kind=st.sampled_from(KINDS))
    def update(self, count: int, seed: int, kind: str) -> None:
        """Give some cells other keys, perhaps of another kind."""
        cells = self._chosen(count, seed)
        keys = vectors(kind, seed, len(cells), self.features).to(self.storage)
        self.index.update(cells, keys)
        self.held |= {int(cell): key for cell, key in zip(cells, keys, strict=True)}

    @rule(seed=seeds, change=st.sampled_from(["add", "remove", "update"]))
    def change_what_cannot_be(self, seed: int, change: str) -> None:
        """Ask for a change of which one part is impossible: nothing changes."""
        cells = self._chosen(3, seed)
        wrong = max(self.held, default=0) + 1
        if change == "add":
            cells = torch.cat([torch.tensor([wrong, wrong]), cells])
        else:
            cells = torch.cat([cells, torch.tensor([wrong])])
        arguments: list[Tensor] = [] if change == "remove" else [self._drawn(seed, len(cells))]
        try:
            getattr(self.index, change)(cells, *arguments)
        except CellError:
            return
        raise AssertionError(f"{change} of {cells.tolist()} was accepted, expected CellError")

    @rule(count=st.integers(1, 5), k=st.integers(1, 40), seed=seeds, default=st.sampled_from(DEFAULT_TYPES))
    def search(self, count: int, k: int, seed: int, default: torch.dtype) -> None:
        """Search under some default type of PyTorch."""
        query = vectors(["gaussian", "whole", "far"][seed % 3], seed, count, self.features)
        torch.set_default_dtype(default)
        try:
            result = self.index.search(query, k)
        finally:
            torch.set_default_dtype(torch.float32)
        self._compare(query, k, result)

    @precondition(lambda self: isinstance(self.index, Tunable) and self.held)
    @rule(k=st.integers(1, 20), seed=seeds)
    def search_everywhere(self, k: int, seed: int) -> None:
        """Search at the greatest effort."""
        assert isinstance(self.index, Tunable)
        before = self.index.effort
        self.index.effort = self.index.max_effort
        query = vectors("gaussian", seed, 3, self.features)
        result = self.index.search(query, k)
        self._compare(query, k, result, complete=self.text.startswith(EXACT_EFFORT))
        self.index.effort = before

    @precondition(lambda self: isinstance(self.index, Tunable) and self.held)
    @rule(seed=seeds, share=st.floats(0.3, 1.0))
    def tune(self, seed: int, share: float) -> None:
        """Tune to a recall."""
        tuned = tune(self.index, vectors("gaussian", seed, 8, self.features), 3, target_recall=share)
        assert tuned.reached or not self.text.startswith(EXACT_EFFORT), tuned

    @precondition(lambda self: isinstance(self.index, Teachable) and self.held)
    @rule(seed=seeds, vectors_too=st.booleans())
    def learn(self, seed: int, vectors_too: bool) -> None:
        """Learn from queries."""
        assert isinstance(self.index, Teachable)
        cells = torch.tensor(list(self.held))
        query = torch.stack([self.held[cell] for cell in cells.tolist()]).float()
        noise = torch.randn(query.shape, generator=torch.Generator().manual_seed(seed))
        self.index.learn(query + 0.1 * noise, cells, vectors=vectors_too)

    @rule(way=st.sampled_from(["state", "state without keys", "pickle", "deepcopy"]))
    def restore(self, way: str) -> None:
        """Go on with a restored copy."""
        if way == "pickle":
            self.index = pickle.loads(pickle.dumps(self.index))
        elif way == "deepcopy":
            self.index = copy.deepcopy(self.index)
        else:
            with_keys = way == "state"
            state: dict[str, Any] = self.index.state_dict(with_keys=with_keys)
            keys = None if with_keys else self.index.state_dict()["rows.keys"].clone()
            restored = make_index(self.text)
            restored.load_state_dict(state, keys)
            if isinstance(self.index, Tunable) and isinstance(restored, Tunable) and self.held:
                restored.effort = self.index.effort
            self.index = restored

    @rule()
    def rebuild(self) -> None:
        """Build again on the keys that are held."""
        if self.held:
            keys = torch.stack(list(self.held.values()))
            self.index.build(keys, torch.tensor(list(self.held)))
            self.given, self.given_before = keys, keys.clone()

    def teardown(self) -> None:
        """What was handed over was never written to, and a last search is right."""
        if hasattr(self, "index"):
            assert torch.equal(self.given, self.given_before), "the caller's keys were changed"
            assert len(self.index) == len(self.held)
            self.search(2, 5, 1, torch.float32)

    def _drawn(self, seed: int, count: int) -> Tensor:
        return vectors(self.kind, seed, count, self.features).to(self.storage)

    def _chosen(self, count: int, seed: int) -> Tensor:
        cells = np.random.default_rng(seed).permutation(np.array(list(self.held), dtype=np.int64))
        return torch.from_numpy(cells[:count])

    def _compare(self, query: Tensor, k: int, result: Any, *, complete: bool = False) -> None:
        """Each result is a cell with its true score, best first; all places that can be are filled."""
        cells = torch.tensor(list(self.held), dtype=torch.int64)
        keys = torch.stack(list(self.held.values())) if self.held else torch.zeros(0, self.features)
        every = query.double() @ keys.double().T  # (B, N)
        size = float(every.abs().max()) if every.numel() else 1.0
        filled = min(k, len(cells))
        assert bool((result.cell[:, :filled] >= 0).all()), "a place is empty, expected a cell in it"
        assert bool((result.cell[:, filled:] == -1).all()), "more cells than there are"
        column = {cell: number for number, cell in enumerate(cells.tolist())}
        for row, found in enumerate(result.cell[:, :filled].tolist()):
            assert len(set(found)) == len(found), "a cell is found twice"
            score = result.score[row, :filled].double()
            wanted = every[row, [column[cell] for cell in found]]
            torch.testing.assert_close(score, wanted, rtol=1e-4, atol=1e-5 * size + 1e-6)
            assert bool((score.diff() <= 0).all()), "scores are not in order"
        if complete and filled:
            best = every.topk(filled, dim=1).values
            torch.testing.assert_close(
                result.score[:, :filled].double(), best, rtol=1e-4, atol=1e-5 * size + 1e-6
            )
        reads = result.reads
        assert bool((reads >= 0).all()) or bool(reads.isnan().all())
