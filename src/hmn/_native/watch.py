"""Lets somebody watch a search: which lists it enters, and how many entries it scores on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmn._native.level import Level


@dataclass
class Steps:
    """What one search through levels did for its queries, taken together.

    Attributes:
        levels: the levels.
        entered: for each level but the first, the lists ``(m,)`` that some query entered, ascending.
        scored: for each level, the number of entries that were scored by their codes.
    """

    levels: Sequence[Level]
    entered: list[Tensor] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)

    def note(self, scored: Tensor, lists: Tensor | None = None) -> None:
        """Take down a level.

        Args:
            scored: ``(B,)`` entries scored per query.
            lists: lists of the next level that queries enter, ``-1`` for none; None for the last level.
        """
        if lists is not None:
            self.entered.append(torch.unique(lists[lists >= 0]))
        self.scored.append(int(scored.sum()))


_SEEN: ContextVar[list[Steps] | None] = ContextVar("seen", default=None)
"""Notes of the searches of a thread."""


@contextmanager
def watching_levels() -> Iterator[list[Steps]]:
    """Watch this thread's searches within the block; they go through PyTorch, not the kernels."""
    seen: list[Steps] = []
    token = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(token)


def watched() -> list[Steps] | None:
    """Where this thread's searches are taken down; None if nobody watches."""
    return _SEEN.get()
