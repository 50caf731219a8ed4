"""A keyword filter after Bordes et al. (2015): only facts that share a rare n-gram with the question.

Theirs looks for n-grams of the question that are names of entities. Ours follows the paper's description: an
n-gram is one to three consecutive words of a subject's name, and rare if at most one fact in ``RARE`` has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.qa.words.letters import words

LONGEST = 3
"""Words of the longest n-gram."""
RARE = 500
"""Facts of the table per fact that may have a rare n-gram."""
LEAST = 8
"""Facts that may have a rare n-gram, however small the table."""


class KeywordFilter:
    """Finds the facts that share a rare n-gram with a question.

    Args:
        facts: the table.
    """

    def __init__(self, facts: FactTable) -> None:
        grams: dict[tuple[str, ...], set[int]] = defaultdict(set)  # subjects by n-gram
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
            if sum(int(end[subject] - first[subject]) for subject in subjects) <= self.most_facts:
                facts_of = [np.arange(first[subject], end[subject]) for subject in sorted(subjects)]
                self._facts[gram] = np.concatenate(facts_of)

    def facts_for(self, texts: Sequence[str]) -> Ragged:
        """Facts of each question, ascending; a question may have none."""
        rows = []
        for text in texts:
            shared = [self._facts[gram] for gram in set(ngrams(text)) if gram in self._facts]
            rows.append(np.unique(np.concatenate(shared)) if shared else np.zeros(0, np.int64))
        return Ragged.of(rows)


def ngrams(text: str) -> Iterator[tuple[str, ...]]:
    """All n-grams of a text, of one word to ``LONGEST`` words."""
    listed = words(text)
    for size in range(1, LONGEST + 1):
        for start in range(len(listed) - size + 1):
            yield tuple(listed[start : start + size])
