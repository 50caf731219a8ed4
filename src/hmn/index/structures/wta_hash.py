"""Winner-take-all hashing: a cell's bucket says which of a few of its features is the largest."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hmn._native import filled, most_frequent
from hmn.errors import ConfigError
from hmn.index.checks import check_count
from hmn.index.clustering.reduction import Reduction, as_reduction
from hmn.index.protocol import Tunable
from hmn.index.storage.buckets import Buckets, search_buckets
from hmn.index.storage.key_rows import KeyRows
from hmn.index.storage.saved import Saved, filed_codes, refuse
from hmn.index.structures.base import Structure
from hmn.index.structures.exact import search_all
from hmn.results import SearchResult

KEY_BITS = 62
"""Bits for the number of a bucket among those of all tables."""
CHUNK_NUMBERS = 1 << 22
"""Features that are looked at in one piece of work, to bound the memory they need."""


@dataclass
class _Tables:
    """The hash tables over the rows.

    Attributes:
        seen: ``(num_tables, num_permutations, prefix)`` int32 features that each table looks at.
        buckets: rows by bucket; the buckets of all tables are numbered through.
        reduction: transforms keys and queries before they are hashed; fitted.
    """

    seen: Tensor
    buckets: Buckets
    reduction: Reduction


class WTAHashIndex(Structure[_Tables], Tunable):
    """Scores the cells that share a bucket with the query in one of several hash tables.

    A table draws ``num_permutations`` random orders of the features and looks at the first ``prefix``
    features of each. The positions of the largest ones together make the bucket. The more two vectors agree
    in the order of their features, the likelier they share a bucket, whatever their length. A query whose
    buckets hold fewer than k cells searches all cells instead; its reads count both searches.

    No reduction is used by default. A reduction appends columns, which are mostly the largest features of a
    key but zero in a query. They would crowd out the features that distinguish cells.

    Source: Vijayanarasimhan, Shlens, Monga and Yagnik, "Deep networks with large output spaces", 2014;
    Yagnik et al., "The power of comparative reasoning", 2011. Several probes per table are our addition.

    Args:
        num_tables: number of hash tables.
        num_permutations: orders of the features per table; p in the paper.
        prefix: features looked at per order, at most the number of features of the (reduced) keys; k in the
            paper.
        num_probes: buckets looked at per table, at most ``1 + num_permutations``. First comes the query's
            own. The others put the second largest feature in place of the largest in one of the orders, those
            with the smallest difference first. Can be changed between searches.
        max_candidates: upper limit of cells scored per query; those that share the most buckets with it are
            kept. None sets no limit; less than k counts as k. Can be changed between searches.
        reduction: transforms keys and queries before they are hashed; None leaves them as they are.
        storage: type in which keys are kept; None keeps their own.
        seed: seed of the orders.

    Raises:
        ConfigError: a setting is out of its range, or the buckets of all tables take more than 62 bits.
    """

    kind = "wta-hash"

    def __init__(
        self,
        num_tables: int = 8,
        num_permutations: int = 4,
        prefix: int = 8,
        num_probes: int = 1,
        max_candidates: int | None = None,
        *,
        reduction: Reduction | None = None,
        storage: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(storage)
        self.num_tables = check_count("num_tables", num_tables)
        self.num_permutations = check_count("num_permutations", num_permutations)
        self.prefix = check_count("prefix", prefix)
        self.num_probes = num_probes
        self.max_candidates = max_candidates
        self.seed = check_count("seed", seed, least=0)
        self._check_search_settings()
        self._table = prefix**num_permutations  # buckets of a table
        if num_tables * self._table > 1 << KEY_BITS:
            bits = math.ceil(math.log2(num_tables * self._table))
            raise ConfigError(
                f"{num_tables} tables of {prefix}^{num_permutations} buckets take {bits} bits, "
                f"expected at most {KEY_BITS}: lower num_permutations or prefix"
            )
        self._reduction = copy.copy(as_reduction(reduction, "none"))

    @property
    def effort(self) -> int:
        """See ``Tunable.effort``: ``max_candidates``; a value of N or more sets no limit.

        If even that misses a recall, raise ``num_probes``, or ``num_tables`` and build again.
        """
        return self.max_effort if self.max_candidates is None else self.max_candidates

    @effort.setter
    def effort(self, value: int) -> None:
        check_count("effort", value)
        self.max_candidates = None if value >= self.max_effort else value

    @property
    def max_effort(self) -> int:
        """See ``Tunable.max_effort``: all cells."""
        return max(1, len(self._current()[0]))

    @property
    def effort_name(self) -> str:
        """See ``Tunable.effort_name``."""
        return "max_candidates"

    def _make(self, rows: KeyRows) -> _Tables:
        reduction = copy.copy(self._reduction)
        features = reduction.features(rows.features)
        if self.prefix > features:
            raise ConfigError(f"prefix is {self.prefix} but the keys have {features} features: lower prefix")
        generator = torch.Generator().manual_seed(self.seed)
        count = self.num_tables * self.num_permutations
        orders = [
            torch.randperm(features, generator=generator, device=generator.device)[: self.prefix]
            for _ in range(count)
        ]
        seen = torch.stack(orders).view(self.num_tables, self.num_permutations, self.prefix)
        seen = seen.to(rows.keys.device, torch.int32)
        reduction.fit(rows.keys[: rows.used])
        every = torch.arange(rows.used, device=rows.keys.device)
        return _Tables(seen, Buckets(self._codes(rows, seen, reduction, every)), reduction)

    def _search(self, rows: KeyRows, tables: _Tables, query: Tensor, k: int) -> SearchResult:
        """Search the buckets of each query.

        Reads count the features looked at and the keys scored. For each probe they also count the number of
        the bucket, where its list begins and ends, and the rows in the list.
        """
        self._check_search_settings()
        parts = torch.split(query, self._part())
        code = torch.cat([self._probes(tables.reduction.queries(part), tables.seen) for part in parts])
        found, narrow = tables.buckets.find(code), partial(self._narrow, k=k)
        result = search_buckets(query, rows, k, found, narrow, float(tables.seen.nbytes))
        return filled(result, query, self._places(rows, k), partial(search_all, rows, k=k))

    def _is_settled(self, rows: KeyRows, tables: _Tables) -> bool:  # noqa: ARG002
        return tables.buckets.is_listed()

    def _settle(self, rows: KeyRows, tables: _Tables) -> None:  # noqa: ARG002
        tables.buckets.list_late()

    def _insert(self, rows: KeyRows, tables: _Tables, touched: Tensor) -> None:
        tables.buckets.file(touched, self._codes(rows, tables.seen, tables.reduction, touched))

    def _discard(self, rows: KeyRows, tables: _Tables, touched: Tensor) -> None:  # noqa: ARG002
        tables.buckets.drop(touched)

    def _write(self, rows: KeyRows, tables: _Tables, touched: Tensor) -> None:
        self._insert(rows, tables, touched)

    def _save(self, rows: KeyRows, tables: _Tables) -> dict[str, Tensor]:  # noqa: ARG002
        tables.buckets.settle()
        state = {"wta.seen": tables.seen, "wta.code": tables.buckets.code}
        return {**tables.reduction.state_dict(), **state}

    def _load(self, rows: KeyRows, state: Mapping[str, Tensor]) -> _Tables:
        reduction = copy.copy(self._reduction)
        saved, features = Saved(state, rows.keys.device, "a WTAHashIndex"), reduction.features(rows.features)
        shape = (self.num_tables, self.num_permutations, self.prefix)
        seen = saved.whole("wta.seen", shape, 0, features, torch.int32)
        most = self.num_tables * self._table
        code = saved.whole("wta.code", (rows.used, self.num_tables), -1, most)
        code = filed_codes(rows.live(), code, "wta.code")
        own = torch.arange(self.num_tables, device=code.device)
        table = code.div(self._table, rounding_mode="floor")  # -1 for a row without a cell
        if not torch.equal(table, torch.where(code < 0, -1, own)):
            refuse("wta.code", "of buckets of other tables", "a bucket of each table")
        reduction.load_state_dict(state)
        return _Tables(seen, Buckets(code), reduction)

    def _describe(self, rows: KeyRows, tables: _Tables) -> dict[str, int | float | str]:  # noqa: ARG002
        sizes = tables.buckets.sizes()
        return {
            "num_tables": self.num_tables,
            "num_permutations": self.num_permutations,
            "prefix": self.prefix,
            "num_probes": self.num_probes,
            "max_candidates": "all" if self.max_candidates is None else self.max_candidates,
            "reduction": tables.reduction.name,
            "seed": self.seed,
            "buckets": len(sizes),
            "largest_bucket": int(sizes.max()) if len(sizes) else 0,
            "mean_bucket": round(float(sizes.float().mean()), 2) if len(sizes) else 0.0,
        }

    def _check_search_settings(self) -> None:
        """Refuse bad values of the settings that can be changed between searches."""
        check_count("num_probes", self.num_probes)
        most = 1 + self.num_permutations if self.prefix > 1 else 1
        if self.num_probes > most:
            raise ConfigError(
                f"num_probes is {self.num_probes}, expected at most {most}: 1 + num_permutations"
            )
        if self.max_candidates is not None:
            check_count("max_candidates", self.max_candidates)

    def _part(self) -> int:
        """Number of vectors that are hashed at a time."""
        return max(1, CHUNK_NUMBERS // max(1, self.num_tables * self.num_permutations * self.prefix))

    def _codes(self, rows: KeyRows, seen: Tensor, reduction: Reduction, chosen: Tensor) -> Tensor:
        """Buckets ``(n, num_tables)`` of chosen rows ``(n,)``, by their stored keys."""
        parts = [reduction.keys(rows.keys[part]) for part in torch.split(chosen, self._part())]
        return torch.cat([self._hash(part, seen)[0] for part in parts])

    def _hash(self, reduced: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hash ``(n, D')``: buckets (n, T), features seen (n, T, p, prefix), places of the largest."""
        seen = reduced.index_select(1, features.flatten()).view(len(reduced), *features.shape)
        largest = seen.argmax(dim=3)  # (n, T, p), the first among equals, which topk does not promise
        table = torch.arange(self.num_tables, device=reduced.device) * self._table
        return (largest * self._radix(reduced.device)).sum(dim=2) + table, seen, largest

    def _probes(self, reduced: Tensor, features: Tensor) -> Tensor:
        """Buckets ``(B, num_tables * num_probes)`` in which to look for queries ``(B, D')``."""
        # 1. The query's own bucket in each table.
        # 2. For each order, how much the second largest feature falls short of the largest.
        # 3. Buckets in which the second replaces the largest, in the orders with the smallest gaps.
        code, seen, largest = self._hash(reduced, features)
        code = code.unsqueeze(2)  # (B, T, 1)
        if self.num_probes > 1:
            best = seen.gather(3, largest.unsqueeze(3))  # (B, T, p, 1)
            others = seen.scatter(3, largest.unsqueeze(3), -torch.inf)  # (B, T, p, prefix)
            second = others.argmax(dim=3)  # (B, T, p)
            gap = (best - others.gather(3, second.unsqueeze(3))).squeeze(3)  # (B, T, p)
            nearest = gap.argsort(dim=2, stable=True)[:, :, : self.num_probes - 1]  # (B, T, num_probes - 1)
            moved = ((second - largest) * self._radix(reduced.device)).gather(2, nearest)
            code = torch.cat([code, code + moved], dim=2)  # (B, T, num_probes)
        return code.flatten(1)

    def _radix(self, device: torch.device) -> Tensor:
        """What the position of each order's largest feature counts in a bucket's number: ``(p,)``."""
        return torch.tensor(
            [self.prefix**place for place in range(self.num_permutations)], dtype=torch.int64, device=device
        )

    def _narrow(self, every: Tensor, k: int) -> Tensor:
        """Candidates ``(b, C)``, each once; if there are too many, those in the most buckets are kept."""
        return most_frequent(every, max(k if self.fills else 1, self.max_candidates or every.shape[1]))
