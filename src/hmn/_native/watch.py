"""Lets somebody watch a search: which lists it enters, and how many entries it scores on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from hmn._native.level import Level

Note = TypeVar("Note")


class Watch(Generic[Note]):
    """Notes that code takes for whoever watches it, in the same thread.

    Args:
        name: what the notes are about.
    """

    def __init__(self, name: str) -> None:
        self._notes: ContextVar[list[Note] | None] = ContextVar(name, default=None)

    @property
    def notes(self) -> list[Note] | None:
        """Where notes go; None if nobody watches."""
        return self._notes.get()

    @contextmanager
    def watching(self) -> Iterator[list[Note]]:
        """Watch what this thread does within the block; gives the list of the notes."""
        notes: list[Note] = []
        token = self._notes.set(notes)
        try:
            yield notes
        finally:
            self._notes.reset(token)


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


LEVELS: Watch[Steps] = Watch("levels")
"""Watch of the searches through levels; while somebody watches, they go through PyTorch, not the kernels."""
