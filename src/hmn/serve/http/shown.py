"""What the model says of itself and of a search, as responses show it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hmn.facts.ids import INVERSE, relation_text
from hmn.index.watch import SearchSeen
from hmn.qa.answer import Trace
from hmn.serve.find import live_cells
from hmn.serve.http.schemas import (
    About,
    AttendedShown,
    FactShown,
    RelationShown,
    SearchShown,
    TierShown,
    TraceShown,
    Writes,
)
from hmn.serve.served import ServedModel

MOST_RELATIONS = 1_000
"""Upper limit of the relations that describe a model."""
MOST_EXAMPLES = 20
"""Upper limit of the questions that describe a model."""


def about(served: ServedModel, writes: Writes) -> About:
    """What is served."""
    with served.reading() as (number, model):
        facts = model.facts
        count = np.bincount(facts.relation[live_cells(facts)], minlength=len(facts.relations))
        count[[name.startswith(INVERSE) for name in facts.relations]] = 0  # made by the table itself
        frequent = np.argsort(-count, kind="stable")[:MOST_RELATIONS]
        relations = [
            RelationShown(
                relation=facts.relations[row],
                relation_name=relation_text(facts.relations[row]),
                facts=int(count[row]),
            )
            for row in frequent
            if count[row]
        ]
        return About(
            version=number,
            facts=int(count.sum()),
            cells=len(model.cells),
            relations=relations,
            examples=model.examples[:MOST_EXAMPLES],
            index=model.config.index,
            hops=model.config.hops,
            writes=writes,
        )


def shown(trace: Trace, index: str) -> TraceShown:
    """What was read for a question."""
    return TraceShown(
        index=index,
        searches=[_search(search) for search in trace.searches],
        attended=[
            AttendedShown(fact=FactShown(**one.fact._asdict()), weight=one.weight, facts=one.facts)
            for one in trace.attended
        ],
    )


def _search(seen: SearchSeen) -> SearchShown:
    return SearchShown(
        queries=seen.queries,
        cells=seen.cells,
        tiers=[
            TierShown(groups=t.groups, scored=t.scored, entered=len(t.entered), spans=_spans(t.entered))
            for t in seen.tiers
        ],
        coded=seen.coded,
        scored=seen.scored,
        reads=seen.reads,
        places=seen.places.tolist(),
    )


def _spans(entered: Tensor) -> list[tuple[int, int]]:
    """First cell and number of cells of groups ``(m, 2)``, with those side by side joined."""
    spans: list[tuple[int, int]] = []
    for begin, count in sorted(entered.tolist()):
        if spans and begin <= sum(spans[-1]):
            spans[-1] = spans[-1][0], max(sum(spans[-1]), begin + count) - spans[-1][0]
        elif count:
            spans.append((begin, count))
    return spans
