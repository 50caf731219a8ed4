"""Made-up words, which no name has: a model learns from them that an unknown word is no part of a name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random

SHORTEST = 4
"""Length of the shortest made-up word, in letters."""
LONGEST = 12
"""Length of the longest made-up word, in letters."""
ATTEMPTS = 20
"""Number of draws until a word is given up that always comes out as a known one."""


class MadeUpWords:
    """Draws words that look like known ones, letter by letter, each after the two before it.

    Args:
        known: Known words. None of them is drawn.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)
        self._after: dict[str, list[str]] = defaultdict(list)
        for word in sorted(self._known):
            marked = f"^^{word}$"
            for place in range(len(marked) - 2):
                self._after[marked[place : place + 2]].append(marked[place + 2])

    def draw(self, rng: Random) -> str:
        """A made-up word; empty if none was found."""
        for _ in range(ATTEMPTS if self._after else 0):
            word = "^^"
            while len(word) < LONGEST + 2 and not word.endswith("$"):
                word += rng.choice(self._after[word[-2:]])
            word = word[2:].removesuffix("$")
            if len(word) >= SHORTEST and word not in self._known:
                return word
        return ""
