"""Any index of the faiss library, behind the same protocol as the structures of our own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmn._native import best_of
from hmn.errors import ConfigError, ShapeError
from hmn.index.checks import check_count, check_query
from hmn.index.clustering.reduction import NoReduction, Reduction
from hmn.index.precision import structure
from hmn.index.storage.key_rows import Rows, built
from hmn.index.structures.faiss_rows import FaissRows, Vectors, import_faiss, reason
from hmn.results import SearchResult

ADDED_AT_A_TIME = 1 << 16
STALE_SHARE = 16


@structure
class FaissIndex:
    """Asks a faiss index for candidates and scores them again by the keys as they are.

    Faiss keeps a float32 copy or codes of the keys, on the CPU. Cells are removed from it where it can do
    that (flat indexes and inverted lists). Elsewhere (graphs, refined indexes) they are masked, and as many
    more results are asked for; the faiss index is filled again, without training, before a search that finds
    more than a sixteenth of it masked. So indexes of that kind suit a memory that seldom changes.

    While there are too few cells to train or build what was asked for, a flat faiss index takes its place and
    search is exact; the next is tried when there are twice as many cells. ``stats`` says so, and why.

    Args:
        factory: what ``faiss.index_factory`` takes, such as ``"IVF1024,Flat"`` or ``"HNSW32"``; the measure
            is the inner product.
        num_probes: inverted lists visited (nprobe of faiss); its default if not given. May be set later.
        ef_search: candidates that a graph search keeps (efSearch of faiss); its default if not given. May be
            set later.
        rescore: candidates asked for, as a multiple of k: more than 1 repairs the order of compressed keys.
        reduction: of keys and queries before faiss sees them; none if not given.
        storage: type in which the keys that score are kept; as they come if not given.
        seed: of the clustering that inverted lists begin with.

    Raises:
        MissingPackageError: faiss is not installed.
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        factory: str = "Flat",
        num_probes: int | None = None,
        ef_search: int | None = None,
        rescore: float = 1.0,
        *,
        reduction: Reduction | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        self._faiss = import_faiss()
        if not factory or "IDMap" in factory:
            raise ConfigError(f"factory is {factory!r}, expected one without IDMap: cell ids are kept here")
        self.factory = factory
        self.num_probes = num_probes
        self.ef_search = ef_search
        self.rescore = rescore
        self.storage = storage
        self.seed = check_count("seed", seed, least=0)
        self._check_search_settings()
        self._reduction: Reduction = NoReduction() if reduction is None else copy.copy(reduction)
        self._rows: Rows | None = None
        self._held = FaissRows(self._faiss, self._faiss.IndexFlatIP(1))
        self._outdated = False  # rows changed in a way that the faiss index could not follow
        self._stands_in = ""  # why a flat index does, if it does
        self._tried = 0  # cells that were too few

    def __len__(self) -> int:
        """Number of cells, N."""
        return 0 if self._rows is None else len(self._rows)

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """See ``Index.build``.

        Raises:
            ConfigError: faiss cannot make such an index for keys of so many features.
        """
        rows = Rows(keys, cells, self.storage)
        index = self._made(self._reduction.features(rows.features))
        self._reduction.fit(rows.keys[: rows.used])
        self._rows = rows
        self._train(index)

    def search(self, query: Tensor, k: int) -> SearchResult:
        """See ``Index.search``.

        Reads are exact for flat indexes, and for inverted lists under a flat list of centroids unless their
        codes are additive: centroids, codes and ids of the lists visited, tables of the codes, and the keys
        scored again. For all others they are unknown: NaN.
        """
        rows = built(self._rows)
        query = check_query(query, rows.features, k).to(rows.keys.device)
        self._check_search_settings()
        self._settle()
        vectors = np.ascontiguousarray(self._reduction.queries(query).cpu().numpy())
        row, touched, scored = self._held.ask(vectors, math.ceil(k * self.rescore))
        candidate = torch.from_numpy(row).to(rows.keys.device)
        score, best = best_of(query, rows.keys, candidate, k)
        again = (candidate >= 0).sum(dim=1)
        cost = torch.from_numpy(touched).to(again.device) + again * rows.features * rows.keys.element_size()
        cells_scored = again if scored is None else torch.from_numpy(scored).to(again.device)
        reads = (cost / (4 * max(1, rows.features))).float()
        return SearchResult(score, rows.cells_at(best), reads, cells_scored)

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.add``."""
        self._insert(built(self._rows).add(cells, keys))

    def remove(self, cells: Tensor) -> None:
        """See ``Index.remove``."""
        self._discard(built(self._rows).remove(cells))

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """See ``Index.update``."""
        touched = built(self._rows).write(cells, keys)
        self._discard(touched)
        self._insert(touched)

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """See ``Index.state_dict``."""
        rows = built(self._rows)
        self._settle()
        return {
            **rows.state_dict(with_keys=with_keys),
            **self._reduction.state_dict(),
            "faiss.index": torch.from_numpy(self._faiss.serialize_index(self._held.index)),
            "faiss.row_at": torch.from_numpy(self._held.rows_by_label()),
            "faiss.tried": torch.tensor(self._tried if self._stands_in else -1),
        }

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """See ``Index.load_state_dict``. Faiss reads bytes of its own: load only what you trust."""
        rows = Rows.from_state(state, keys, self.storage)
        if missing := {"faiss.index", "faiss.row_at", "faiss.tried"} - set(state):
            raise ShapeError(f"the state has no {min(missing)}: is it that of a FaissIndex?")
        try:
            index = self._faiss.deserialize_index(state["faiss.index"].cpu().numpy())
        except RuntimeError as error:
            raise ShapeError(f"faiss cannot read faiss.index: {reason(error)}") from None
        row_at = state["faiss.row_at"].to("cpu", torch.int64, copy=True).numpy()
        features, live = self._reduction.features(rows.features), rows.live().cpu().numpy()
        held = np.sort(row_at[row_at >= 0])
        if index.d != features or not np.array_equal(held, live):
            raise ShapeError(f"the faiss index does not hold the {len(live)} cells of {features} features")
        again = FaissRows(self._faiss, index, row_at)
        if index.ntotal != (len(live) if again.removes else len(row_at)):
            raise ShapeError(f"the faiss index holds {index.ntotal} vectors, expected {len(live)}")
        self._reduction.load_state_dict(state)
        self._rows, self._held, self._outdated = rows, again, False
        self._tried = max(0, int(state["faiss.tried"]))
        self._stands_in = f"{self._tried} cells were too few" if int(state["faiss.tried"]) >= 0 else ""

    def stats(self) -> dict[str, int | float | str]:
        """See ``Index.stats``."""
        default = "as faiss has it"
        return {
            "structure": f"faiss {self.factory}",
            **built(self._rows).stats(),
            "stands_in": f"Flat, as {self._stands_in}" if self._stands_in else "no",
            "num_probes": default if self.num_probes is None else self.num_probes,
            "ef_search": default if self.ef_search is None else self.ef_search,
            "rescore": self.rescore,
            "reduction": self._reduction.name,
            "seed": self.seed,
            "removes": "at once" if self._held.removes else "by masking",
            "masked": self._held.stale,
        }

    def knob(self) -> tuple[str, int]:
        """See ``Tunable.knob``: ``num_probes`` of inverted lists, ``ef_search`` of graphs that have it."""
        rows = built(self._rows)
        self._settle()
        if self._stands_in:
            raise ConfigError(
                f"a flat index stands in for faiss {self.factory!r} ({self._stands_in}), expected enough "
                "cells to build it: tune when there are more, or ask for another factory"
            )
        lists = self._faiss.try_extract_index_ivf(self._held.index)
        if lists is not None:
            return "num_probes", lists.nlist
        try:
            untrained = self._made(self._held.index.d)
            self._faiss.ParameterSpace().set_index_parameter(untrained, "efSearch", 1)
        except RuntimeError:
            raise ConfigError(
                f"faiss {self.factory!r} has neither num_probes nor ef_search, expected a factory with one "
                "that trades reads for recall: ask for one such as 'IVF1024,Flat' or 'HNSW32'"
            ) from None
        return "ef_search", max(1, len(rows))

    def _check_search_settings(self) -> None:
        """Check those that may be set between searches, and give them to the faiss index."""
        for name in ("num_probes", "ef_search"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if not isinstance(self.rescore, int | float) or not self.rescore >= 1:
            raise ConfigError(f"rescore is {self.rescore!r}, expected a number of at least 1")

    def _made(self, features: int) -> Any:
        """The index that was asked for, untrained."""
        try:
            index = self._faiss.index_factory(features, self.factory, self._faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            what = f"{self.factory!r} for {features} features"
            raise ConfigError(f"faiss cannot make {what}: {reason(error)}") from None
        self._set(index)
        return index

    def _set(self, index: Any) -> None:
        """Tell a faiss index how much of it to search."""
        names = {"num_probes": "nprobe", "ef_search": "efSearch"}
        for name, faiss_name in names.items():
            if getattr(self, name) is None:
                continue
            try:
                self._faiss.ParameterSpace().set_index_parameter(index, faiss_name, getattr(self, name))
            except RuntimeError:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} but {self.factory!r} has no {faiss_name}: leave it out"
                ) from None

    def _train(self, index: Any) -> None:
        """Train an index on all cells and fill it, or put a flat one in its place."""
        rows = built(self._rows)
        self._stands_in, self._tried, self._outdated = "", len(rows), False
        try:
            if not index.is_trained:
                if not len(rows):
                    raise RuntimeError("there are no cells yet")
                lists = self._faiss.try_extract_index_ivf(index)
                if lists is not None:
                    lists.cp.seed = self.seed % (1 << 31)
                index.train(self._vectors(rows.live()))
            self._held = FaissRows(self._faiss, index)
            self._fill()
        except RuntimeError as error:
            self._stands_in = reason(error)
            self._held = FaissRows(self._faiss, self._faiss.IndexFlatIP(index.d))
            self._fill()

    def _fill(self) -> None:
        """Add all cells to an empty index."""
        for part in torch.split(built(self._rows).live(), ADDED_AT_A_TIME):
            self._held.add(part.cpu().numpy(), self._vectors(part))

    def _settle(self) -> None:
        """Make the faiss index fit to search."""
        cells = len(self)
        if self._stands_in and cells and cells >= 2 * self._tried:
            self._train(self._made(self._held.index.d))
        elif self._outdated or self._held.stale > cells // STALE_SHARE:
            self._outdated = False
            self._held.clear()
            try:
                self._fill()
            except RuntimeError:
                self._train(self._made(self._held.index.d))
        if not self._stands_in:
            self._set(self._held.index)

    def _insert(self, rows: Tensor) -> None:
        if self._outdated:
            return
        try:
            self._held.add(rows.cpu().numpy(), self._vectors(rows))
        except RuntimeError:
            self._outdated = True

    def _discard(self, rows: Tensor) -> None:
        if not self._outdated:
            self._held.remove(rows.cpu().numpy())

    def _vectors(self, rows: Tensor) -> Vectors:
        """What faiss sees of the keys in rows ``(n,)``."""
        return np.ascontiguousarray(self._reduction.keys(built(self._rows).keys[rows]).cpu().numpy())
