"""Exact search by bounds: codes of 8 or 16 bits rule out keys that cannot be among the best.

A code gives a score up to an error, which Cauchy-Schwarz bounds by the lengths of query and key. A key whose
upper bound is below the k-th best score cannot be among the k best. All other keys are scored in full, so
nothing is lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native import screened, screening_bits, screens, write_entries
from hmn._native.allowed.filter import Filter
from hmn._native.codes import codes_of
from hmn._native.level import GROUP, LANES, Level
from hmn.index.storage.fingerprint import Spots
from hmn.index.storage.key_rows import KeyRows

LEAST_ROWS = 1 << 13
"""Lower limit of rows that are screened; it takes no longer to score fewer in full."""
AFTER = 512
"""Number of queries of the same keys after which it pays to make codes of them."""
LIST = 1 << 12
"""Rows per list; a thread works through one list at a time."""
RATIO = 0.008
"""Typical error of a query's 8-bit code, in lengths of the query."""
FINE_RATIO = 6.5e-6
"""Typical error of a query's 16-bit code, in lengths of the query times the root of the features."""
ROOM = 1 << 10
"""Upper limit of rows scored in full per query at first, with 8-bit codes."""
FINE_ROOM = 1 << 6
"""Upper limit of rows scored in full per query at first, with 16-bit codes, besides 5/4 of ``k``."""
MORE = 8
"""Factor by which the limit is raised for queries that reach it."""
LEAST_SHARE = 8
"""Divisor of the number of rows; the quotient is the highest that the limit is raised to."""
LONGEST = 1e12
"""Length above which no key is screened: bounds in float32 could overflow."""
SHORTEST = 1e-30
"""Length added to each bound: more than float32 loses of the shortest keys."""
MOST_FEATURES = 1 << 16
"""Upper limit of features for 16-bit codes; with more, sums of their products could exceed 32 bits."""
MOST_BEYOND = 1 << 12
"""Upper limit of rows that were added after the codes were made; with more, codes are made again."""
GONE = -1e12
"""Bound of a removed row, in lengths of the query."""
PART = 1 << 13
"""Rows whose codes are made at a time, to bound the memory they need."""


class Screen:
    """Makes codes of an index's keys once that pays, and keeps them up to date.

    Keys may be shared with others that change them in place. Changes that PyTorch can see are noticed, and
    all others if they overwrite every key.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget the codes: rows were added, removed or replaced."""
        self._codes: Codes | None = None
        self._keys: Tensor | None = None
        self._spots: Spots | None = None
        self._version = self._asked = 0

    def is_settled(self, rows: KeyRows) -> bool:
        """Whether these rows can be searched at once: no codes to forget, and none to make first."""
        if rows.keys.device.type != "cpu" or len(rows) < LEAST_ROWS or not rows.features or not screens():
            return True
        return self._is_of(rows) and (self._codes is not None or self._asked < AFTER)

    def settle(self, rows: KeyRows) -> None:
        """Forget the codes of keys that others have changed, and make codes of the keys once that pays."""
        if not self._is_of(rows):
            self.forget()
            self._keys, self._version = rows.keys, rows.keys._version
        if self._asked >= AFTER:
            self._codes, self._spots = Codes(rows), Spots(rows.keys)

    def codes(self, queries: int) -> Codes | None:
        """The codes, for a search of this number of queries; None while they do not pay. Settle first."""
        self._asked += queries
        codes = self._codes
        return codes if codes is not None and codes.sound else None

    def write(self, rows: KeyRows, touched: Tensor) -> None:
        """Make new codes of rows ``(n,)`` that were given new keys by ``KeyRows.write``."""
        if self._follows(rows) and self._codes is not None:
            self._codes.keys = rows.keys
            self._codes.write(touched)

    def insert(self, rows: KeyRows, touched: Tensor) -> None:
        """Follow rows ``(n,)`` that ``KeyRows.add`` has added."""
        if self._follows(rows) and self._codes is not None and not self._codes.insert(rows.keys, touched):
            self._codes = None  # made again by the next search

    def discard(self, touched: Tensor) -> None:
        """Follow rows ``(n,)`` that were removed."""
        if self._codes is not None and not self._codes.discard(touched):
            self._codes = None

    def _follows(self, rows: KeyRows) -> bool:
        """Whether nobody else has changed the keys since the last search; forgets the codes if not."""
        keys, version = rows.written_from or (None, 0)
        written = keys is rows.keys and version != keys._version  # by the index, in place
        overwritten = not written and keys is not None and self._spots and not self._spots.unchanged(keys)
        if keys is not self._keys or version != self._version or overwritten:
            self.forget()
            return False
        self._keys, self._version = rows.keys, rows.keys._version
        if self._codes is not None:
            self._spots = Spots(rows.keys)
        return True

    def _is_of(self, rows: KeyRows) -> bool:
        if self._keys is not rows.keys or self._version != rows.keys._version:
            return False
        return self._spots is None or self._spots.unchanged(rows.keys)


class Codes:
    """Codes of the rows that were live when they were made; those added later are scored in full.

    Args:
        rows: rows of keys, on the CPU.

    Attributes:
        keys: ``(capacity, D)`` storage of the keys.
        sound: whether the codes are of use: no key is too long, and for most queries they gave the best rows
            for certain.
    """

    def __init__(self, rows: KeyRows) -> None:
        live = rows.live()
        count, panels = len(live), -(-len(live) // LANES)
        self.keys, self._live = rows.keys, live
        starts = torch.arange(0, count, LIST, device=live.device)
        child = live.new_zeros(panels * LANES, dtype=torch.int32)
        child[:count] = live
        bits = screening_bits() if rows.features <= MOST_FEATURES else 8
        self._fine = bits == 16
        self._ratio = FINE_RATIO * rows.features**0.5 if self._fine else RATIO
        groups = -(-rows.features * bits // (8 * GROUP))
        self._level = Level(
            codes=live.new_zeros(panels, groups, LANES, GROUP, dtype=torch.uint8),
            along=live.new_zeros(panels * LANES, dtype=torch.float32),
            step=live.new_zeros(panels * LANES, dtype=torch.float32),
            child=child,
            first_panel=starts // LANES,
            length=(count - starts).clamp(max=LIST).int(),
            bits=bits,
        )
        self._asked = self._uncertain = 0
        self._beyond = live[:0]  # rows that were added since
        self._gone = live.new_zeros(count, dtype=torch.bool)  # of the others, those that were removed
        self._any_gone = False
        self.sound = True
        self.write(live)

    def write(self, rows: Tensor) -> None:
        """Make the codes of distinct rows ``(n,)`` whose keys have changed."""
        level = self._level
        rows, places = self._coded(rows)
        nowhere = level.step.new_zeros(len(level.length), 1)
        for row, place in zip(torch.split(rows, PART), torch.split(places, PART), strict=True):
            write_entries(level, place, self.keys, row, place // LIST, nowhere)
            coded = codes_of(level, place, self.keys.shape[1]).sub_(level.zero)
            coded *= level.step[place].unsqueeze(1)
            length = torch.linalg.vector_norm(coded, dim=1, dtype=torch.float64)
            rest = torch.linalg.vector_norm(coded.sub_(self.keys[row]), dim=1, dtype=torch.float64)
            level.along[place] = ((rest / self._ratio + length) * (1 + 1e-5) + SHORTEST).float()
            self.sound = self.sound and bool((level.along[place] < LONGEST).all())  # False for NaN

    def insert(self, keys: Tensor, rows: Tensor) -> bool:
        """Take rows ``(n,)`` of keys that were added; False if codes of all rows are due."""
        again, places = self._coded(rows)
        self.keys = keys
        self._gone[places] = False
        self.write(again)
        self._beyond = torch.cat([self._beyond, rows[~torch.isin(rows, again)]])
        return len(self._beyond) <= MOST_BEYOND

    def discard(self, rows: Tensor) -> bool:
        """Leave rows ``(n,)`` out from now on; False if codes of all rows are due."""
        coded, places = self._coded(rows)
        self._gone[places], self._any_gone = True, self._any_gone or len(coded) > 0
        self._level.along[places], self._level.step[places] = GONE, 0.0
        self._beyond = self._beyond[~torch.isin(self._beyond, rows)]
        return LEAST_SHARE * int(self._gone.sum()) <= len(self._live)

    def _coded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Those of some rows that have codes, and their places."""
        if not len(self._live):
            return rows[:0], rows[:0]
        places = torch.searchsorted(self._live, rows).clamp(max=len(self._live) - 1)
        coded = self._live[places] == rows
        return rows[coded], places[coded]

    def search(self, query: Tensor, k: int, allowed: Filter | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The best ``k`` rows of queries ``(B, D)`` float32, among those that are allowed.

        Returns:
            ``score`` (B, k); ``row`` (B, k); ``certain`` (B,) bool, whether these are surely the best.
        """
        most = len(self._live) // LEAST_SHARE
        room = min(k + k // 4 + FINE_ROOM if self._fine else max(ROOM, 4 * k), most)
        if k > room:
            row = query.new_full((len(query), k), -1, dtype=torch.int64)
            certain = query.new_zeros(len(query), dtype=torch.bool)
            return query.new_full((len(query), k), -torch.inf), row, certain
        score, row, certain = screened(query, self._level, self._ratio, self.keys, room, k, allowed)
        again = (~certain).nonzero().squeeze(1)
        if len(again) and room < most:
            room = min(MORE * room, most)
            own = None if allowed is None else allowed.of(again)
            more = screened(query[again], self._level, self._ratio, self.keys, room, k, own)
            score[again], row[again], certain[again] = more
        if self._any_gone:  # keys may be so long that their bounds are lower still
            certain &= ~self._gone[torch.searchsorted(self._live, row.clamp(min=0))].any(dim=1)
        if len(self._beyond):
            beyond = query @ self.keys[self._beyond].float().T
            if allowed is not None:
                beyond.masked_fill_(~allowed.allows(self._beyond), -torch.inf)
            score = torch.cat([score, beyond], dim=1)
            row = torch.cat([row, self._beyond.expand(len(query), -1)], dim=1)
            score, order = score.topk(k, dim=1)
            row = row.gather(1, order).masked_fill(score == -torch.inf, -1)
        self._asked, self._uncertain = self._asked + len(query), self._uncertain + int((~certain).sum())
        self.sound = self.sound and (self._asked < AFTER or 2 * self._uncertain < self._asked)
        return score, row, certain
