"""What a search structure promises, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from hmn.results import SearchResult


class Searcher(Protocol):
    """Finds cells for queries: an index, or what stands before one."""

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find, for each query ``(B, D)``, up to ``k`` cells; see ``Index.search``."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


class Index(Protocol):
    """A structure over N keys of D features that finds the K cells of largest inner product with a query.

    Settings are given when it is made; ``build`` gives it the keys. Cell ids are the user's own and stable:
    adding and removing cells never changes the id of another. Under autocast and inference mode it computes
    as it does elsewhere. Threads may search at the same time, but nothing else while another changes it.
    """

    def build(self, keys: Tensor, cells: Tensor | None = None) -> None:
        """Search these keys from now on, in place of any before.

        Args:
            keys: ``(N, D)`` float32, float16 or bfloat16, finite; N may be 0. They are not copied if they
                are of the index's storage type, so that rows changed in place are scored as they are then.
            cells: ``(N,)`` int64 ids of the cells, distinct and not negative; 0 to N - 1 if not given.

        Raises:
            ShapeError: keys are not a float matrix, or the ids do not fit them.
            NonFiniteError: keys hold NaN or infinity.
        """
        ...

    def search(self, query: Tensor, k: int) -> SearchResult:
        """Find, for each query, the ``k`` cells with the largest inner product.

        Args:
            query: ``(B, D)`` float, finite.
            k: results a query, at least 1; may exceed the number of cells.

        Returns:
            ``score`` (B, k) and ``cell`` (B, k), best first; unused places hold ``-inf`` and ``-1``.

        Raises:
            NotFittedError: the index was not built.
            ShapeError: ``query`` has another number of features than the cells.
            NonFiniteError: ``query`` holds NaN or infinity.
            ConfigError: ``k`` is less than 1.
        """
        ...

    def add(self, cells: Tensor, keys: Tensor) -> None:
        """Add cells ``(n,)`` with keys ``(n, D)``.

        Raises:
            CellError: a cell is there already or twice among them; nothing is added then.
        """
        ...

    def remove(self, cells: Tensor) -> None:
        """Remove cells ``(n,)``.

        Raises:
            CellError: a cell is not there or twice among them; nothing is removed then.
        """
        ...

    def update(self, cells: Tensor, keys: Tensor) -> None:
        """Give cells ``(n,)`` that are there new keys ``(n, D)``.

        Raises:
            CellError: a cell is not there or twice among them; nothing is changed then.
        """
        ...

    def state_dict(self, *, with_keys: bool = True) -> dict[str, Tensor]:
        """What ``load_state_dict`` needs to search the same; ``with_keys=False`` leaves out the keys.

        The tensors are the index's own, not copies: save or clone them before the index is changed.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Tensor], keys: Tensor | None = None) -> None:
        """Take back what ``state_dict`` gave, into an index of the same settings.

        Args:
            state: by name; what is kept of it is copied, so that changes to the index do not reach it.
            keys: ``(rows, D)``, the storage of the keys where the state was saved without them, or in place
                of those that it has; shared with the index as in ``build``.

        Raises:
            ShapeError: a tensor is missing or does not fit; the index is as it was then.
        """
        ...

    def stats(self) -> dict[str, int | float | str]:
        """Settings, sizes and shape of the structure, for people to read."""
        ...

    def __len__(self) -> int:
        """Number of cells, N."""
        ...


@runtime_checkable
class Teachable(Index, Protocol):
    """An index that learns from queries where the cells that they ask for are."""

    def learn(self, query: Tensor, cells: Tensor, *, vectors: bool = True) -> None:
        """Learn that each query ``(Q, D)`` is to find its cell ``(Q,)``: how far to look, and where."""
        ...

    def forget(self) -> None:
        """Forget where to look, before keys move."""
        ...


@runtime_checkable
class Tunable(Index, Protocol):
    """An index with one setting that trades reads for recall and may be set at any time."""

    def knob(self) -> tuple[str, int]:
        """The setting's name and the largest value that makes a difference.

        Raises:
            NotFittedError: the index was not built.
            ConfigError: as it is made, it has no such setting.
        """
        ...


@runtime_checkable
class Clustered(Protocol):
    """What Top-K and Sample-K need of an index: its cells lie in clusters, each cell in exactly one."""

    def centroids(self) -> Tensor:
        """``(C, D)`` float32, one row a cluster."""
        ...

    def cells_in(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of clusters ``(m,)``: ids ``(n,)``, cluster by cluster, and how many in each ``(m,)``."""
        ...


@runtime_checkable
class Live(Index, Protocol):
    """An index that can score keys where they lie, so that it never falls behind them."""

    def scores_live(self, keys: Tensor) -> bool:
        """Whether each search scores these very keys ``(N, D)``: changes in place then need no ``update``."""
        ...
