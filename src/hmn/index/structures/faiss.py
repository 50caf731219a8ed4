"""Any index of the faiss library, with the methods of ``Index``."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmn._native import best_of, filled
from hmn.errors import ConfigError
from hmn.index.checks import check_count
from hmn.index.clustering.reduction import Reduction, as_reduction
from hmn.index.protocol import Tunable
from hmn.index.storage.key_rows import MOST_ROWS, KeyRows
from hmn.index.storage.saved import ANY, Saved, refuse
from hmn.index.structures.base import Structure
from hmn.index.structures.exact import search_all
from hmn.index.structures.faiss_rows import FaissRows, Vectors, graph_of, import_faiss, reason
from hmn.results import SearchResult

ADDED_AT_A_TIME = 1 << 16
"""Number of vectors given to faiss at a time, to bound the memory they need."""
STALE_SHARE = 16
"""Divisor of the number of cells; with more masked vectors than the quotient, faiss is filled again."""


@dataclass
class _Held:
    """A faiss index over the rows.

    Attributes:
        vectors: the faiss index, with the row of each of its vectors.
        reduction: transforms keys and queries before faiss sees them; fitted.
        tried: number of cells at the last attempt to build the index of ``factory``.
        stands_in: why a flat index stands in for that index; empty if none does.
        outdated: whether rows changed in a way that the faiss index could not follow.
        settings: search settings that the faiss index has now.
    """

    vectors: FaissRows
    reduction: Reduction
    tried: int = 0
    stands_in: str = ""
    outdated: bool = False
    settings: tuple[int | None, int | None] | None = None

    def suits_more(self, cells: int) -> bool:
        """Whether a flat index stands in, and there are enough cells to try the intended one again."""
        return bool(self.stands_in) and cells > 0 and cells >= 2 * self.tried

    def is_stale(self, cells: int) -> bool:
        """Whether the faiss index must be filled again."""
        return self.outdated or self.vectors.stale > cells // STALE_SHARE

    def of(self, rows: KeyRows, chosen: Tensor) -> Vectors:
        """Vectors that faiss gets for the keys of chosen rows ``(n,)``."""
        return np.ascontiguousarray(self.reduction.keys(rows.keys[chosen]).cpu().numpy())

    def fill(self, rows: KeyRows) -> None:
        """Add all rows to an empty faiss index."""
        for part in torch.split(rows.live(), ADDED_AT_A_TIME):
            self.vectors.add(part.cpu().numpy(), self.of(rows, part))


class FaissIndex(Structure[_Held], Tunable):
    """Asks a faiss index for candidates and scores them again by the live keys.

    Faiss keeps a float32 copy or codes of the keys, on the CPU. Flat indexes and inverted lists can remove
    cells. Graphs and refined indexes cannot: there removed cells are masked, and one more result is asked for
    per masked cell. Once more than a sixteenth is masked, the next search fills the faiss index again,
    without training. So indexes of that kind suit a memory that seldom changes. A query for which faiss finds
    fewer than k cells, as in short lists, searches all cells instead; its reads count both searches.

    While there are too few cells to train or build the index of ``factory``, a flat faiss index stands in and
    search is exact. The build is tried again each time the number of cells has doubled. ``stats`` says
    whether a flat index stands in, and why.

    Args:
        factory: text for ``faiss.index_factory``, such as ``"IVF1024,Flat"`` or ``"HNSW32"``; the measure is
            the inner product.
        num_probes: inverted lists visited (nprobe of faiss); None keeps its default. Can be changed between
            searches.
        ef_search: candidates that a graph search keeps (efSearch of faiss); None keeps its default. Can be
            changed between searches.
        rescore: candidates asked for, as a multiple of k: more than 1 repairs the order of compressed keys.
        reduction: transforms keys and queries before faiss sees them; None leaves them as they are.
        storage: type in which the keys that score are kept; None keeps their own.
        seed: seed of the clustering of inverted lists.

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
        super().__init__(storage)
        import_faiss()
        if not factory or "IDMap" in factory:
            raise ConfigError(f"factory is {factory!r}, expected one without IDMap: cell ids are kept here")
        self.factory, self.kind = factory, f"faiss {factory}"
        self.num_probes = num_probes
        self.ef_search = ef_search
        self.rescore = rescore
        self.seed = check_count("seed", seed, least=0)
        self._check_search_settings()
        self._reduction = copy.copy(as_reduction(reduction, "none"))

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``: ``num_probes`` of inverted lists, ``ef_search`` of graphs that have it."""
        index = self._tunable()
        lists = import_faiss().try_extract_index_ivf(index)
        if lists is not None:
            return int(lists.nprobe) if self.num_probes is None else self.num_probes
        return graph_of(index).efSearch if self.ef_search is None else self.ef_search

    @effort.setter
    def effort(self, value: int) -> None:
        check_count("effort", value)
        if self.effort_name == "num_probes":
            self.num_probes = value
        else:
            self.ef_search = value

    @property
    def max_effort(self) -> int:
        """See ``Tunable.max_effort``: all inverted lists, or all cells."""
        lists = import_faiss().try_extract_index_ivf(self._tunable())
        return max(1, len(self)) if lists is None else int(lists.nlist)

    @property
    def effort_name(self) -> str:
        """See ``Tunable.effort_name``."""
        lists = import_faiss().try_extract_index_ivf(self._tunable())
        return "ef_search" if lists is None else "num_probes"

    def _tunable(self) -> Any:
        """The faiss index, which has inverted lists or ef_search.

        Raises:
            ConfigError: it has neither.
        """
        with self._lock.writing:
            held = self._settled()[1]
        if held.stands_in:
            raise ConfigError(
                f"a flat index stands in for faiss {self.factory!r} ({held.stands_in}), expected enough "
                "cells to build it: tune when there are more, or ask for another factory"
            )
        index = held.vectors.index
        if import_faiss().try_extract_index_ivf(index) is None and graph_of(index) is None:
            raise ConfigError(
                f"faiss {self.factory!r} has neither num_probes nor ef_search, expected a factory with one "
                "that trades reads for recall: ask for one such as 'IVF1024,Flat' or 'HNSW32'"
            )
        return index

    def _make(self, rows: KeyRows) -> _Held:
        """Faiss may refuse such an index for keys of this number of features, with a ConfigError."""
        reduction = copy.copy(self._reduction)
        index = self._made(reduction.features(rows.features))
        reduction.fit(rows.keys[: rows.used])
        return self._trained(rows, reduction, index)

    def _search(self, rows: KeyRows, held: _Held, query: Tensor, k: int) -> SearchResult:
        """Search with faiss, and score its candidates by the keys.

        Reads are exact for flat indexes, and for inverted lists under a flat list of centroids unless their
        codes are additive. They count the centroids, the codes and ids of the lists visited, the tables of
        the codes, and the keys scored again. For other indexes they are unknown: NaN.
        """
        vectors = np.ascontiguousarray(held.reduction.queries(query).cpu().numpy())
        row, touched, scored = held.vectors.ask(vectors, math.ceil(k * self.rescore))
        candidate = torch.from_numpy(row).to(rows.keys.device)  # (B, C)
        score, best = best_of(query, rows.keys, candidate, k)  # (B, k)
        rescored = (candidate >= 0).sum(dim=1)  # (B,)
        key_bytes = rescored * rows.features * rows.keys.element_size()
        cost = torch.from_numpy(touched).to(key_bytes.device) + key_bytes
        cells_scored = rescored if scored is None else torch.from_numpy(scored).to(rescored.device)
        reads = (cost / (4 * max(1, rows.features))).float()
        result = SearchResult(score, best, reads, cells_scored)
        return filled(result, query, self._places(rows, k), partial(search_all, rows, k=k))

    def _is_settled(self, rows: KeyRows, held: _Held) -> bool:
        self._check_search_settings()
        if held.suits_more(len(rows)) or held.is_stale(len(rows)):
            return False
        return bool(held.stands_in) or held.settings == (self.num_probes, self.ef_search)

    def _settle(self, rows: KeyRows, held: _Held) -> None:
        """Build, fill or set the faiss index again before it is searched."""
        if held.suits_more(len(rows)):
            held = self._trained(rows, held.reduction, self._made(held.vectors.index.d))
        elif held.is_stale(len(rows)):
            held.outdated = False
            held.vectors.clear()
            try:
                held.fill(rows)
            except RuntimeError:
                held = self._trained(rows, held.reduction, self._made(held.vectors.index.d))
        if not held.stands_in:
            self._set(held.vectors.index)
            held.settings = self.num_probes, self.ef_search
        self._parts = held

    def _insert(self, rows: KeyRows, held: _Held, touched: Tensor) -> None:
        if held.outdated:
            return
        try:
            held.vectors.add(touched.cpu().numpy(), held.of(rows, touched))
        except RuntimeError:
            held.outdated = True

    def _discard(self, rows: KeyRows, held: _Held, touched: Tensor) -> None:  # noqa: ARG002
        if not held.outdated:
            held.vectors.remove(touched.cpu().numpy())

    def _save(self, rows: KeyRows, held: _Held) -> dict[str, Tensor]:  # noqa: ARG002
        return {
            **held.reduction.state_dict(),
            "faiss.index": torch.from_numpy(import_faiss().serialize_index(held.vectors.index)),
            "faiss.row_at": torch.from_numpy(held.vectors.rows_by_label()),
            "faiss.tried": torch.tensor(
                held.tried if held.stands_in else -1, dtype=torch.int64, device="cpu"
            ),
        }

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> _Held:
        """Make the faiss index from a state. Faiss parses these bytes itself: load only what you trust."""
        reduction = copy.copy(self._reduction)
        saved, live = Saved(state, torch.device("cpu"), "a FaissIndex"), rows.live().cpu()
        written = saved.tensor("faiss.index", torch.uint8, (ANY,)).numpy()
        row_at = saved.whole("faiss.row_at", (ANY,), -1, max(1, rows.used)).numpy()
        tried = saved.number("faiss.tried", -1, MOST_ROWS + 1)
        try:
            index = import_faiss().deserialize_index(written)
        except RuntimeError as error:
            refuse("faiss.index", f"unreadable ({reason(error)})", "what faiss wrote")
        features = reduction.features(rows.features)
        if index.d != features or index.metric_type != import_faiss().METRIC_INNER_PRODUCT:
            refuse("faiss.index", f"of {index.d} features", f"inner products of {features} features")
        if not np.array_equal(np.sort(row_at[row_at >= 0]), live.numpy()):
            refuse("faiss.row_at", f"of {int((row_at >= 0).sum())} cells", f"of the {len(live)} of the keys")
        vectors = FaissRows(index, row_at)
        if not np.array_equal(np.sort(vectors.labels()), vectors.expected_labels()):
            refuse("faiss.index", f"of {index.ntotal} vectors with other labels", "those of faiss.row_at")
        reduction.load_state_dict(state)
        why = f"{tried} cells were too few" if tried >= 0 else ""
        return _Held(vectors, reduction, max(0, tried), why)

    def _describe(self, rows: KeyRows, held: _Held) -> dict[str, int | float | str]:  # noqa: ARG002
        default = "as faiss has it"
        return {
            "stands_in": f"Flat, as {held.stands_in}" if held.stands_in else "no",
            "num_probes": default if self.num_probes is None else self.num_probes,
            "ef_search": default if self.ef_search is None else self.ef_search,
            "rescore": self.rescore,
            "reduction": held.reduction.name,
            "seed": self.seed,
            "removes": "at once" if held.vectors.removes else "by masking",
            "masked": held.vectors.stale,
        }

    def _check_search_settings(self) -> None:
        """Refuse bad values of the settings that can be changed between searches."""
        for name in ("num_probes", "ef_search"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if not isinstance(self.rescore, int | float) or not self.rescore >= 1:
            raise ConfigError(f"rescore is {self.rescore!r}, expected a number of at least 1")

    def _made(self, features: int) -> Any:
        """The faiss index of ``factory``, untrained."""
        faiss = import_faiss()
        try:
            index = faiss.index_factory(features, self.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            what = f"{self.factory!r} for {features} features"
            raise ConfigError(f"faiss cannot make {what}: {reason(error)}") from None
        self._set(index)
        return index

    def _set(self, index: Any) -> None:
        """Give a faiss index its search settings."""
        names = {"num_probes": "nprobe", "ef_search": "efSearch"}
        for name, faiss_name in names.items():
            if getattr(self, name) is None:
                continue
            try:
                import_faiss().ParameterSpace().set_index_parameter(index, faiss_name, getattr(self, name))
            except RuntimeError:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} but {self.factory!r} has no {faiss_name}: leave it out"
                ) from None

    def _trained(self, rows: KeyRows, reduction: Reduction, index: Any) -> _Held:
        """A faiss index trained on all rows and filled with them; a flat one if that fails."""
        try:
            if not index.is_trained:
                if not len(rows):
                    raise RuntimeError("there are no cells yet")
                lists = import_faiss().try_extract_index_ivf(index)
                if lists is not None:
                    lists.cp.seed = self.seed % (1 << 31)
                every = np.ascontiguousarray(reduction.keys(rows.keys[rows.live()]).cpu().numpy())
                index.train(every)
            held = _Held(FaissRows(index), reduction, len(rows))
            held.fill(rows)
        except RuntimeError as error:
            flat = FaissRows(import_faiss().IndexFlatIP(index.d))
            held = _Held(flat, reduction, len(rows), reason(error))
            held.fill(rows)
        return held
