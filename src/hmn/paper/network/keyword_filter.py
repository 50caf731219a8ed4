"""A keyword filter after Bordes et al. (2015): only facts that share a rare n-gram with the question.

Theirs looks for n-grams of the question that are names of entities. Ours, as the paper tells it: an n-gram is
one to three words in a row of a subject's name; it is rare if at most one fact in ``RARE`` has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.qa.text import words

LONGEST = 3
RARE = 500
LEAST = 8


class KeywordFilter:
    """Finds the facts that share a rare n-gram with a question.

    Args:
        facts: the table.
    """

    def __init__(self, facts: FactTable) -> None:
        grams: dict[tuple[str, ...], set[int]] = defaultdict(set)  # and the subjects that have them
        for subject in np.unique(facts.subject).tolist():
            for name in facts.names_of(subject):
                for gram in ngrams(name):
                    grams[gram].add(subject)
        # facts are sorted by their subjects
        first = np.searchsorted(facts.subject, np.arange(facts.num_entities))
        end = np.searchsorted(facts.subject, np.arange(facts.num_entities), side="right")
        self.most_facts = max(LEAST, len(facts) // RARE)
        self._facts: dict[tuple[str, ...], NDArray[np.int64]] = {}
        for gram, subjects in grams.items():
            if sum(int(end[one] - first[one]) for one in subjects) <= self.most_facts:
                held = [np.arange(first[one], end[one]) for one in sorted(subjects)]
                self._facts[gram] = np.concatenate(held)

    def facts_for(self, texts: Sequence[str]) -> Ragged:
        """Facts of each question, ascending; perhaps none."""
        rows = []
        for text in texts:
            held = [self._facts[gram] for gram in set(ngrams(text)) if gram in self._facts]
            rows.append(np.unique(np.concatenate(held)) if held else np.zeros(0, np.int64))
        return Ragged.of(rows)


def ngrams(text: str) -> Iterator[tuple[str, ...]]:
    """All n-grams of a text's words, of one word to ``LONGEST``."""
    found = words(text)
    for size in range(1, LONGEST + 1):
        for start in range(len(found) - size + 1):
            yield tuple(found[start : start + size])
