"""A faiss index whose vectors are known by row number, and the bytes that a search of it touches."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmn.errors import MissingPackageError

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]

LABEL_BYTES = 8
"""Bytes of the label that faiss keeps for each vector."""


def import_faiss() -> Any:
    """The faiss module.

    Raises:
        MissingPackageError: it is not installed.
    """
    if (loaded := sys.modules.get("faiss")) is not None:
        return loaded
    try:
        with warnings.catch_warnings():
            # the wrappers that swig generates are deprecated in newer Pythons
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingPackageError("this index needs faiss: pip install 'hmn[faiss]'") from error


class FaissRows:
    """Vectors in a trained faiss index, each with the row of its key.

    If faiss can remove vectors, a vector's label is its row. Otherwise labels number the vectors in the order
    in which they were added, and those of removed vectors are masked.

    Args:
        index: trained index whose measure is the inner product; empty, or with the labels of ``row_at``.
        row_at: row of each label, -1 for those removed.

    Attributes:
        index: the faiss index.
        stale: number of labels that faiss still holds although they were removed.
        removes: whether faiss can remove vectors from this index.
    """

    def __init__(self, index: Any, row_at: Numbers | None = None) -> None:
        faiss = import_faiss()
        self.removes = _can_remove(index)
        own_ids = faiss.try_extract_index_ivf(index) is not None or isinstance(index, faiss.IndexIDMap)
        self.index = faiss.IndexIDMap2(index) if self.removes and not own_ids else index
        self._row_at: Numbers = np.empty(0, np.int64) if row_at is None else row_at
        held = self._row_at[self._row_at >= 0]
        self._label_of: Numbers = np.full(held.max(initial=-1) + 1, -1, np.int64)
        self._label_of[held] = np.flatnonzero(self._row_at >= 0)
        self.stale = 0 if self.removes else len(self._row_at) - len(held)
        self._sizes: Numbers | None = None  # of the inverted lists

    def __deepcopy__(self, memo: dict[int, Any]) -> FaissRows:
        """A copy with a faiss index of its own."""
        faiss = import_faiss()
        return FaissRows(faiss.deserialize_index(faiss.serialize_index(self.index)), self.rows_by_label())

    def add(self, rows: Numbers, vectors: Vectors) -> None:
        """Add vectors ``(n, D)`` for rows ``(n,)`` that are not held.

        Raises:
            RuntimeError: faiss can add none now; ``clear``, then add all of them.
        """
        if not len(rows):
            return
        self._sizes = None
        if self.removes:
            labels = rows
            self.index.add_with_ids(vectors, labels)
        else:
            labels = np.arange(self.index.ntotal, self.index.ntotal + len(rows))
            self.index.add(vectors)
        self._row_at = _reaching(self._row_at, int(labels.max()) + 1)
        self._row_at[labels] = rows
        self._label_of = _reaching(self._label_of, int(rows.max()) + 1)
        self._label_of[rows] = labels

    def remove(self, rows: Numbers) -> None:
        """Remove the vectors of rows ``(n,)``."""
        if not len(rows):
            return
        self._sizes = None
        labels = self._label_of[rows]
        self._row_at[labels] = -1
        if self.removes:
            self.index.remove_ids(labels)
        else:
            self.stale += len(rows)

    def rows_by_label(self) -> Numbers:
        """Row of each label, -1 for those removed; ``row_at`` takes it back."""
        return self._row_at.copy() if self.removes else self._row_at[: self.index.ntotal].copy()

    def labels(self) -> Numbers:
        """Labels of the vectors that the faiss index holds, in any order."""
        faiss = import_faiss()
        if isinstance(self.index, faiss.IndexIDMap):
            found: Numbers = faiss.vector_to_array(self.index.id_map)
            return found
        lists = faiss.try_extract_index_ivf(self.index)
        if not self.removes or lists is None:
            return np.arange(self.index.ntotal)
        held, parts = lists.invlists, [np.empty(0, np.int64)]
        for number in range(lists.nlist):
            if size := held.list_size(number):
                parts.append(faiss.rev_swig_ptr(held.get_ids(number), size).copy())
        return np.concatenate(parts)

    def expected_labels(self) -> Numbers:
        """Labels that the faiss index should hold, ascending."""
        return np.flatnonzero(self._row_at >= 0) if self.removes else np.arange(len(self._row_at))

    def clear(self) -> None:
        """Remove all vectors; the index stays trained."""
        self.index.reset()
        self._row_at, self._label_of = np.empty(0, np.int64), np.empty(0, np.int64)
        self.stale, self._sizes = 0, None

    def ask(self, query: Vectors, count: int) -> tuple[Numbers, NDArray[np.float64], Numbers | None]:
        """The rows that faiss proposes.

        Args:
            query: ``(B, D)``.
            count: rows wanted per query, besides those masked.

        Returns:
            Rows ``(B, C)``, -1 for none; bytes ``(B,)`` that faiss touched, NaN if unknown; number of vectors
            ``(B,)`` that it scored in full, None if it scored codes or the number is unknown.
        """
        count, b = min(int(self.index.ntotal), count + self.stale), len(query)
        if not count or not b:
            return np.empty((b, 0), np.int64), np.zeros(b), np.zeros(b, np.int64)
        faiss, inner = import_faiss(), self.index
        if isinstance(inner, faiss.IndexIDMap):
            inner = faiss.downcast_index(inner.index)
        touched, scored = np.full(b, np.nan), None
        quantizer = faiss.downcast_index(inner.quantizer) if isinstance(inner, faiss.IndexIVF) else None
        if isinstance(quantizer, faiss.IndexFlat):
            nearness, lists = quantizer.search(query, min(inner.nprobe, inner.nlist))
            _, label = inner.search_preassigned(query, count, lists, nearness)
            listed = np.where(lists < 0, 0, self._list_sizes(inner)[lists]).sum(axis=1)
            touched = 4.0 * inner.nlist * inner.d + listed * (inner.code_size + LABEL_BYTES)
            scored = listed if isinstance(inner, faiss.IndexIVFFlat) else None
            touched = touched + (0.0 if scored is not None else _tables(inner))
        else:
            _, label = self.index.search(query, count)
            if isinstance(inner, faiss.IndexFlat):
                scored = np.full(b, inner.ntotal)
                touched = 4.0 * inner.d * scored + LABEL_BYTES * count
        return np.where(label < 0, -1, self._row_at[label.clip(min=0)]), touched, scored

    def _list_sizes(self, lists: Any) -> Numbers:
        if self._sizes is None:
            self._sizes = np.array(
                [lists.invlists.list_size(number) for number in range(lists.nlist)], np.int64
            )
        return self._sizes


def graph_of(index: Any) -> Any:
    """The HNSW graph within a faiss index, which has ``efSearch``; None if there is none."""
    for name in ("index", "base_index"):  # of indexes that change vectors or scores around another one
        if hasattr(index, name):
            return graph_of(import_faiss().downcast_index(getattr(index, name)))
    return getattr(index, "hnsw", None)


def reason(error: RuntimeError) -> str:
    """The message of a faiss error, without its place in the source of faiss."""
    message = re.sub(r".*\.cpp:\d+: ", "", str(error).splitlines()[0])
    return message.removeprefix("Error: ").rpartition("failed: ")[2].strip()


def _can_remove(index: Any) -> bool:
    try:
        index.remove_ids(np.empty(0, np.int64))
    except RuntimeError:
        return False
    return True


def _tables(lists: Any) -> float:
    """Bytes of the tables by which the codes of inverted lists are decoded."""
    if hasattr(lists, "pq"):
        return 4.0 * float(lists.pq.centroids.size())
    if hasattr(lists, "sq"):
        return 4.0 * float(lists.sq.trained.size())
    return np.nan


def _reaching(table: Numbers, size: int) -> Numbers:
    """The table with room for ``size`` entries, -1 in new ones."""
    if size <= len(table):
        return table
    more = size - len(table) + len(table) // 2
    return np.concatenate([table, np.full(more, -1, np.int64)])
