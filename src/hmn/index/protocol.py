"""What a search structure promises, on one page."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from hmn.index.allowed import Allowed
from hmn.results import RangeResult, SearchResult


class Searcher(Protocol):
    """Finds cells for queries: an index, or a wrapper around one."""

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find, for each query ``(B, D)``, up to ``k`` of the allowed cells; see ``Index.search``."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


class Index(Protocol):
    """A structure over N keys of D features that finds the K cells of largest inner product with a query.

    Settings are given when an index is made; ``build`` gives it the keys. Cell ids are the user's own and
    stable: adding and removing cells never changes the id of another. Autocast and inference mode around a
    call make no difference to its results.

    Threads may share an index. Searches run at the same time. ``add``, ``remove``, ``update`` and
    ``state_dict`` wait for searches in progress and then run alone. ``build`` and ``load_state_dict`` make
    the new structure beside the old one, which answers until the new one takes its place. A call that fails
    or is interrupted leaves the cells and keys as they were. Do not change an index from a callback that it
    calls, and do not write to shared keys in place while another thread searches.
    """

    @property
    def has_structure(self) -> bool:
        """False if the index needs nothing but the keys, as exact search does: there is nothing to save."""
        ...

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """Build the index on these keys, in place of any that it had.

        Args:
            keys: ``(N, D)`` float32, float16 or bfloat16, finite; N may be 0. Keys of the index's storage
                type are shared, not copied: rows that change in place are scored by their new values. They
                are never written to: the first ``add`` or ``update`` that must write copies all keys.
            cells: ``(N,)`` int64 ids of the cells, distinct and not negative; 0 to N - 1 if not given.

        Raises:
            ShapeError: keys are not a float matrix, or the ids do not fit them.
            NonFiniteError: keys hold NaN or infinity, or are longer than 2^63: float32 could not hold their
                inner products.
        """
        ...

    def search(self, query: Tensor, k: int, allowed: Allowed | None = None) -> SearchResult:
        """Find, for each query, the ``k`` cells with the largest inner product.

        Args:
            query: ``(B, D)`` float, finite.
            k: results per query, at least 1; may exceed the number of cells.
            allowed: cells that may be found, as if there were no others; None for all. Where few are, all of
                them are scored, so that the search is exact; otherwise it finds as many of the best as a
                search of all cells does. Searching with all cells allowed is searching without. One of

                - a mask ``(N,)`` of bool, by cell id. Cells from N on, such as those added since it was made,
                  are not found. It may be longer than there are cells.
                - ids ``(n,)`` of int64. Repeats do not matter.
                - a ``Where``: cells whose number in a column lies within limits, which each query may have of
                  its own, such as its own tenant, sequence, or window of time.

        Returns:
            ``score`` (B, k) and ``cell`` (B, k), best first; unused places hold ``-inf`` and ``-1``.

        Raises:
            NotFittedError: the index was not built.
            ShapeError: ``query`` has another number of features than the cells, or ``allowed`` is none of
                these, or does not fit the queries.
            CellError: an id of ``allowed`` is not that of a cell.
            NonFiniteError: ``query`` holds NaN or infinity, or is longer than 2^63.
            ConfigError: ``k`` is less than 1.
        """
        ...

    def search_range(
        self, query: Tensor, least: float | Tensor, limit: int | None = None, allowed: Allowed | None = None
    ) -> RangeResult:
        """Find, for each query, all cells whose inner product with it is at least a number.

        It searches for more and more cells, until the last of them scores less. So exact search finds all,
        and any other structure those that ``search`` finds among the best: the recall is that of a search
        for as many cells.

        Args:
            query: ``(B, D)`` float, finite.
            least: a number, or ``(B,)``, one for each query.
            limit: upper limit of results per query, which are then the best; None for none.
            allowed: cells that may be found; see ``search``.

        Returns:
            ``score`` and ``cell`` of all queries, one query after the other, and where each ``begin``s.

        Raises:
            ConfigError: ``least`` is not a number, or ``limit`` is less than 1.
            ShapeError: ``least`` has another number of numbers than there are queries.
            NonFiniteError: ``least`` holds NaN.
            NotFittedError, ShapeError, CellError, NonFiniteError: as for ``search``.
        """
        ...

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """Add cells ``(n,)`` with keys ``(n, D)``.

        Raises:
            CellError: a cell exists already or is given twice; nothing is added then.
        """
        ...

    def remove(self, cells: Tensor) -> None:
        """Remove cells ``(n,)``.

        Raises:
            CellError: a cell does not exist or is given twice; nothing is removed then.
        """
        ...

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """Give existing cells ``(n,)`` new keys ``(n, D)``.

        Raises:
            CellError: a cell does not exist or is given twice; nothing is changed then.
        """
        ...

    def keys_of(self, cells: Tensor) -> Tensor:
        """Keys ``(..., D)`` of cells ``(...)``, as they are stored; a copy.

        Raises:
            CellError: a cell does not exist.
        """
        ...

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """Tensors from which ``load_state_dict`` restores the index; ``with_keys=False`` omits the keys.

        They are the index's own tensors, not copies: save or clone them before the index changes.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Restore what ``state_dict`` returned, into an index made with the same settings.

        Args:
            state: tensors by name. They are copied, so that later changes to the index do not reach them.
            keys: ``(rows, D)`` storage of the keys, shared as in ``build``; needed if the state was saved
                without keys, used in place of the state's own keys otherwise. They are kept in the storage
                type of this index, whatever type that of the state had.

        Raises:
            ShapeError: a tensor is missing or does not fit; the index stays as it was.
        """
        ...

    def stats(self) -> dict[str, int | float | str]:
        """Settings, sizes and shape of the structure, for people to read."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


class Tunable(Index):
    """An index with one setting that trades reads for recall and may be changed between searches.

    This is a base class, not a protocol. For a protocol with properties, ``isinstance`` of Python 3.11 would
    read the properties, and these raise errors before the index is built.
    """

    @property
    @abstractmethod
    def effort(self) -> int:
        """How far a search looks, at least 1: the value of the setting. Assign it to change it.

        Raises:
            NotFittedError: the value depends on the cells and the index was not built.
            ConfigError: this index has no such setting, such as a flat index of faiss.
        """

    @effort.setter
    @abstractmethod
    def effort(self, value: int) -> None: ...

    @property
    @abstractmethod
    def max_effort(self) -> int:
        """Effort beyond which nothing changes.

        Raises:
            NotFittedError: the index was not built.
            ConfigError: this index has no such setting.
        """

    @property
    @abstractmethod
    def effort_name(self) -> str:
        """Name of the setting that effort stands for, such as ``num_probes``.

        Raises:
            NotFittedError, ConfigError: as for ``max_effort``, where the name depends on the structure.
        """


@runtime_checkable
class Teachable(Index, Protocol):
    """An index that learns from queries where to find their cells."""

    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:
        """Learn that each query ``(Q, D)`` should find its cell ``(Q,)``: where to look, and how far.

        Args:
            query: queries like those that will be asked.
            cells: the cell that each query should find; or ``(Q, K)`` the K cells that a search for K results
                should find.
            vectors: whether to learn where to look. False learns only how far: use it while keys still move.
        """
        ...

    def forget(self) -> None:
        """Forget where to look, but not how far: call it before keys move."""
        ...


@runtime_checkable
class Clustered(Protocol):
    """An index whose cells lie in clusters, each in exactly one: Top-K and Sample-K need it."""

    def centroids(self) -> Tensor:
        """``(C, D)`` float32, one row per cluster."""
        ...

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of clusters ``(m,)``: ids ``(n,)``, cluster by cluster, and the size of each ``(m,)``."""
        ...


@runtime_checkable
class Live(Index, Protocol):
    """An index that can score keys where they lie, so that it never falls behind them."""

    def scores_live(self, keys: Tensor) -> bool:
        """Whether each search scores these very keys ``(N, D)``: changes in place then need no ``update``."""
        ...
