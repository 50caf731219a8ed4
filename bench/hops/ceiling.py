"""What a reader can reach at most that knows which relations every phrasing asks for.

The facts do not hold every answer, so the right relations may lead to nothing, or to more than is right.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

Relations = tuple[int, ...]
Weights = dict[int, float]

SEEN = 8
"""Training questions per phrasing from which its relations are found."""
NAME = "[]"
"""Mark that stands for the topic in a phrasing."""


@dataclass
class Walker:
    """Walks from topics over relations; a walk never returns to its topic.

    Args:
        facts: the table, with inverses.
    """

    facts: FactTable

    def __post_init__(self) -> None:
        """Sort the objects by subject and relation."""
        self._ends: dict[int, dict[int, list[int]]] = defaultdict(dict)
        columns = (self.facts.subject, self.facts.relation, self.facts.object)
        for subject, relation, object_ in zip(*(column.tolist() for column in columns), strict=True):
            self._ends[subject].setdefault(relation, []).append(object_)

    def weights(self, topic: int, relations: Relations) -> Weights:
        """Weights of the entities at the end: at each step the objects share the weight of their subject."""
        weight: Weights = {topic: 1.0}
        for relation in relations:
            after: Weights = defaultdict(float)
            for entity, mass in weight.items():
                ends = [end for end in self._ends[entity].get(relation, ()) if end != topic]
                for end in ends:
                    after[end] += mass / len(ends)
            weight = after
        return weight

    def walks(self, topic: int, hops: int) -> dict[Relations, set[int]]:
        """Entities at the end of every walk of this number of steps."""
        found: dict[Relations, set[int]] = {(): {topic}}
        for _ in range(hops):
            further: dict[Relations, set[int]] = defaultdict(set)
            for relations, entities in found.items():
                for entity in entities:
                    for relation, ends in self._ends[entity].items():
                        further[*relations, relation].update(ends)
            found = {relations: ends - {topic} for relations, ends in further.items()}
        return found


def phrasing(questions: QuestionSet, number: int, facts: FactTable) -> str:
    """A question without the name of its topic."""
    topic = int(questions.topic[number])
    name = facts.names_of(topic)[0] if topic >= 0 else ""
    return questions.text[number].replace(name, NAME) if name else questions.text[number]


def relations_asked(walker: Walker, train: QuestionSet, hops: int) -> dict[str, Relations]:
    """The relations of every phrasing: those that lead to the answers of its training questions best."""
    agreed: dict[str, dict[Relations, float]] = defaultdict(lambda: defaultdict(float))
    seen: dict[str, int] = defaultdict(int)
    for number in np.flatnonzero(train.topic >= 0).tolist():
        asked = phrasing(train, number, walker.facts)
        if seen[asked] == SEEN:
            continue
        seen[asked] += 1
        right = set(train.answers(number).tolist())
        for relations, ends in walker.walks(int(train.topic[number]), hops).items():
            if ends & right:
                agreed[asked][relations] += len(ends & right) / len(ends | right)
    return {asked: max(shares, key=lambda key: (shares[key], key)) for asked, shares in agreed.items()}


def best_share(weights: Weights, right: set[int]) -> float:
    """Share of right ones among the entities of largest weight."""
    most = max(weights.values(), default=0.0)
    best = [entity for entity, weight in weights.items() if weight >= most * (1 - 1e-6)]
    return sum(entity in right for entity in best) / len(best) if best else 0.0


def reachable(walker: Walker, valid: QuestionSet, hops: int) -> float:
    """Share of the questions that some walk of this number of steps leads to a right answer of."""
    hits = 0
    for number in np.flatnonzero(valid.topic >= 0).tolist():
        right = set(valid.answers(number).tolist())
        hits += any(ends & right for ends in walker.walks(int(valid.topic[number]), hops).values())
    return hits / len(valid)


def ceiling(walker: Walker, asked: dict[str, Relations], valid: QuestionSet) -> list[float]:
    """Hits@1 of each question for a reader that is given its topic and its relations."""
    found = []
    for number in range(len(valid)):
        relations = asked.get(phrasing(valid, number, walker.facts))
        topic, right = int(valid.topic[number]), set(valid.answers(number).tolist())
        known = relations is not None and topic >= 0
        found.append(best_share(walker.weights(topic, relations or ()), right) if known else 0.0)
    return found
