"""Exact search by bounds: codes of 8 or 16 bits say which keys cannot be among the best; others are scored.

A score is known from the codes up to what they leave out, which is bounded by lengths (Cauchy-Schwarz). What
has a bound below the k-th best score cannot be among the k best, so nothing is lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native import screened, screening_bits, screens, write_entries
from hmn._native.codes import codes_of
from hmn._native.level import GROUP, LANES, Level
from hmn.index.storage.key_rows import KeyRows

LEAST_ROWS = 1 << 13
"""Fewer rows are as soon scored in full."""
AFTER = 512
"""Queries of the same keys after which it pays to make codes of them."""
LIST = 1 << 12
"""Rows of a list: a piece of work."""
RATIO, FINE_RATIO = 0.008, 6.5e-6
"""What codes leave of a query, in lengths of it, typically: of 8 bits; of 16, by the root of the features."""
ROOM, FINE_ROOM, MORE, LEAST_SHARE = 1 << 10, 1 << 6, 8, 8
"""Most rows that a query has scored in full, with codes of 8 bits; with 16, beside ``k``; how
many times as many if need be, and their largest share."""
LONGEST, SHORTEST = 1e12, 1e-30
"""Keys beyond the first are not screened; the second is more than float32 loses of the shortest."""
MOST_FEATURES = 1 << 16
"""With more, inner products in 16 bits come near what 32 hold."""
PART = 1 << 13


class Screen:
    """Makes codes of the keys of an index once that pays, and follows what changes them.

    Keys may be shared with others that write to them in place: what PyTorch has seen of that is noticed.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget the codes: rows were added, removed or replaced."""
        self._codes: Codes | None = None
        self._keys: Tensor | None = None
        self._version = self._asked = 0

    def is_settled(self, rows: KeyRows) -> bool:
        """Whether there is nothing to forget and no codes are to be made before a search of these rows."""
        if rows.keys.device.type != "cpu" or len(rows) < LEAST_ROWS or not rows.features or not screens():
            return True
        return self._is_of(rows) and (self._codes is not None or self._asked < AFTER)

    def settle(self, rows: KeyRows) -> None:
        """Forget the codes of keys that others have changed, and make codes of the keys once that pays."""
        if not self._is_of(rows):
            self.forget()
            self._keys, self._version = rows.keys, rows.keys._version
        if self._asked >= AFTER:
            self._codes = Codes(rows)

    def codes(self, queries: int) -> Codes | None:
        """The codes for this number of queries more, None while they do not pay; it is settled."""
        self._asked += queries
        codes = self._codes
        return codes if codes is not None and codes.sound else None

    def write(self, rows: KeyRows, cells: Tensor, keys: Tensor) -> None:
        """Give cells ``(n,)`` new keys ``(n, D)``, and codes of them; see ``Index.update``."""
        known = self._is_of(rows)
        written = rows.write(cells, keys)
        if not known:
            self.forget()
        else:
            self._version = rows.keys._version
            if self._codes is not None:
                self._codes.write(written)

    def _is_of(self, rows: KeyRows) -> bool:
        return self._keys is rows.keys and self._version == rows.keys._version


class Codes:
    """Codes of all live rows.

    Args:
        rows: whose keys are searched, on the CPU.

    Attributes:
        sound: whether they are of use: no key's length is beyond bounds, and most queries have been certain.
    """

    def __init__(self, rows: KeyRows) -> None:
        live = rows.live()
        count, panels = len(live), -(-len(live) // LANES)
        self._keys, self._live = rows.keys, live
        starts = torch.arange(0, count, LIST)
        child = torch.zeros(panels * LANES, dtype=torch.int32)
        child[:count] = live
        bits = screening_bits() if rows.features <= MOST_FEATURES else 8
        self._fine = bits == 16
        self._ratio = FINE_RATIO * rows.features**0.5 if self._fine else RATIO
        groups = -(-rows.features * bits // (8 * GROUP))
        self._level = Level(
            codes=torch.zeros(panels, groups, LANES, GROUP, dtype=torch.uint8),
            along=torch.zeros(panels * LANES),
            step=torch.zeros(panels * LANES),
            child=child,
            first_panel=starts // LANES,
            length=(count - starts).clamp(max=LIST).int(),
            bits=bits,
        )
        self._asked = self._uncertain = 0
        self.sound = True
        self.write(live)

    def write(self, rows: Tensor) -> None:
        """Make codes of rows ``(n,)``, distinct, whose keys have changed."""
        level, places = self._level, torch.searchsorted(self._live, rows)
        nowhere = torch.zeros(len(level.length), 1)
        for row, place in zip(torch.split(rows, PART), torch.split(places, PART), strict=True):
            write_entries(level, place, self._keys, row, place // LIST, nowhere)
            coded = codes_of(level, place, self._keys.shape[1]).sub_(level.zero)
            coded *= level.step[place].unsqueeze(1)
            length = torch.linalg.vector_norm(coded, dim=1, dtype=torch.float64)
            rest = torch.linalg.vector_norm(coded.sub_(self._keys[row]), dim=1, dtype=torch.float64)
            level.along[place] = ((rest / self._ratio + length) * (1 + 1e-5) + SHORTEST).float()
            self.sound = self.sound and bool((level.along[place] < LONGEST).all())  # NaN is not

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best ``k`` rows of queries ``(B, D)`` float32.

        Returns:
            ``score`` (B, k), ``row`` (B, k), and whether they are the best for certain, (B,).
        """
        most = len(self._live) // LEAST_SHARE
        room = min(k + k // 4 + FINE_ROOM if self._fine else max(ROOM, 4 * k), most)
        if k > room:
            empty = query.new_full((len(query), k), -torch.inf), torch.full((len(query), k), -1)
            return (*empty, torch.zeros(len(query), dtype=torch.bool))
        score, row, certain = screened(query, self._level, self._ratio, self._keys, room, k)
        again = (~certain).nonzero().squeeze(1)
        if len(again) and room < most:
            room = min(MORE * room, most)
            more = screened(query[again], self._level, self._ratio, self._keys, room, k)
            score[again], row[again], certain[again] = more
        self._asked, self._uncertain = self._asked + len(query), self._uncertain + int((~certain).sum())
        self.sound = self.sound and (self._asked < AFTER or 2 * self._uncertain < self._asked)
        return score, row, certain
