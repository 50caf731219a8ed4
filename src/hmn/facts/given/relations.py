"""Relations whose ids hold no words, such as ``P19``: they get the words of their labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hmn.facts.ids import INVERSE, canonical_id, labelled
from hmn.facts.names import RankedName
from hmn.facts.numbering import NumberedFacts, canonical

_WORDLESS = re.compile(r"[A-Za-z]{0,3}[-_.]?\d+|<?https?://\S+")
"""Pattern of an id without words of its own, or of an address, whose label says more."""


class Labels:
    """Collects the labels of relations among names.

    Args:
        relations: ids of relations, in any order.
    """

    def __init__(self, relations: Iterable[str]) -> None:
        ids = {relation.removeprefix(INVERSE) for relation in relations}
        self._wanted = {relation for relation in ids if _WORDLESS.fullmatch(relation)}
        self._labels: dict[str, tuple[int, str]] = {}

    def noted(self, names: Iterable[RankedName]) -> Iterator[RankedName]:
        """Give names unchanged, and note the labels among them."""
        if not self._wanted:
            yield from names
            return
        for name in names:
            relation = canonical_id(name[0])
            if relation in self._wanted:
                ranked = name[1], " ".join(name[2].split())
                self._labels[relation] = min(ranked, self._labels.get(relation, ranked))
            yield name

    def applied(self, facts: NumberedFacts) -> NumberedFacts:
        """The facts with the labels in the ids of their relations: ``place of birth <P19>``."""
        if not self._labels:
            return facts
        relations = [
            labelled(relation, self._labels[own][1])
            if (own := relation.removeprefix(INVERSE)) in self._labels
            else relation
            for relation in facts.relations
        ]
        return canonical(facts._replace(relations=relations))[0]
