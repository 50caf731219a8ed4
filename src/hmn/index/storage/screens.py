"""Short codes, rows of codes and bounds of lists whose entries lie by falling length."""

from __future__ import annotations

import torch

from hmn._native import write_bounds
from hmn._native.fallback.ordered import write_fine
from hmn._native.level import FINE_BYTES, LANES, LINE, WORD, Level
from hmn.index.storage.saved import LARGEST, Saved, refuse

FILLED_AT_A_TIME = 1 << 16
"""Rows of codes made at a time while lists are loaded."""


def add_screen(level: Level, parts: int, features: int) -> None:
    """Give a level of 4-bit codes room for short codes of n ``parts``, rows of codes, sizes and bounds."""
    panels, device = len(level.codes), level.codes.device
    row = -(-(WORD + (features + 1) // 2) // FINE_BYTES) * FINE_BYTES
    level.screen = torch.zeros(panels, 1 + parts // 8, LINE, dtype=torch.uint8, device=device)
    level.fine = torch.zeros(panels * LANES, row, dtype=torch.uint8, device=device)
    level.size = torch.zeros(panels * LANES, 2, dtype=torch.float32, device=device)
    level.bound = torch.zeros(panels, 2, dtype=torch.float32, device=device)


def read_screen(level: Level, saved: Saved, prefix: str, parts: int, features: int) -> None:
    """Give a loaded level its short codes, and what follows from them.

    Raises:
        ShapeError: a tensor is missing or does not fit.
    """
    panels, lists = len(level.codes), torch.arange(len(level.length), device=level.codes.device)
    add_screen(level, parts, features)
    assert level.bound is not None
    level.screen = saved.tensor(f"{prefix}screen", torch.uint8, (panels, 1 + parts // 8, LINE))
    words = level.screen[:, 0].view(torch.int16).view(torch.bfloat16).float()
    if not bool((words.abs() <= LARGEST).all()):
        refuse(f"{prefix}screen", "of numbers that are too large or not finite", f"at most {LARGEST:.3g}")
    level.size = saved.floats(f"{prefix}size", (panels * LANES, 2), least=0.0)
    for place in torch.split(level.entries_of(lists)[0], FILLED_AT_A_TIME):
        write_fine(level, place)
    write_bounds(level, lists, max(1, features))
    if not bool(level.bound.isfinite().all()):
        refuse(f"{prefix}size", f"far too small for {prefix}along", "the lengths of the vectors")
