"""Which words questions have, so that words which no question had before are noticed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.qa.text import hashed

BITS = 18
"""Logarithm of the number of places that words are hashed to."""
PLACES = 1 << BITS
"""Number of places that words are hashed to."""


class SeenWords:
    """Numbers of questions that have each word, by the word's hash.

    Args:
        count: ``(PLACES,)`` number of questions per place; none if not given.

    Attributes:
        least: number of questions from which on a word counts as seen: 2 for words of the questions that were
            counted, so that none of them makes its own words known.
    """

    def __init__(self, count: NDArray[np.int64] | None = None) -> None:
        self._count = np.zeros(PLACES, np.int64) if count is None else count
        self.least = 1

    @classmethod
    def of(cls, questions: Iterable[Iterable[str]]) -> SeenWords:
        """Count the words of questions."""
        count = np.zeros(PLACES, np.int64)
        for words in questions:
            count[sorted({_place(word) for word in words})] += 1
        return cls(count)

    @classmethod
    def unpacked(cls, packed: Tensor) -> SeenWords:
        """What ``packed`` gave."""
        return cls(np.unpackbits(packed.cpu().numpy()).astype(np.int64))

    def packed(self) -> Tensor:
        """``(PLACES / 8,)`` bytes, with a bit per place: whether any question has it."""
        return torch.from_numpy(np.packbits(self._count > 0))

    def unseen(self, questions: Iterable[Iterable[str]]) -> NDArray[np.bool_]:
        """Whether each word of some questions, one question after the other, is in none that was counted."""
        place = [_place(word) for words in questions for word in words]
        unseen: NDArray[np.bool_] = self._count[np.array(place, np.int64)] < self.least
        return unseen


def _place(word: str) -> int:
    return hashed(word, BITS)
