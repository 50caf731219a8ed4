"""The topic of a question: the entity that it is about, written in ``[brackets]`` as in MetaQA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hmn.facts.table import FactTable

NO_TOPIC = -1
"""Number of the topic of a question that has none."""
MOST_BRACKETS = 8
"""Maximum number of opening and of closing brackets that are tried; questions have a pair or two."""


def split_topic(text: str, facts: FactTable) -> tuple[str, int]:
    """Take the brackets off the topic of a question, such as ``who directed [Inception]``.

    The topic is the longest text in brackets that is the id or a name of an entity, so a name may hold
    brackets itself. Brackets around anything else are part of the text.

    Returns:
        The question, and the number of its topic. That is -1 if no entity is in brackets, if several are, or
        if several share the name, since the question then does not say which one is meant.
    """
    opening = [place for place, character in enumerate(text) if character == "["][:MOST_BRACKETS]
    closing = [place for place, character in enumerate(text) if character == "]"][-MOST_BRACKETS:]
    pairs = [(first, last) for first in opening for last in closing if first < last]
    topics: list[NDArray[np.int32]] = []
    taken: list[tuple[int, int]] = []
    for first, last in sorted(pairs, key=lambda pair: pair[0] - pair[1]):
        if all(last < start or end < first for start, end in taken):
            entities = entities_meant(text[first + 1 : last], facts)
            if len(entities):
                topics.append(entities)
                taken.append((first, last))
    brackets = {place for pair in taken for place in pair}
    if not brackets:
        return text, NO_TOPIC
    bare = "".join(character for place, character in enumerate(text) if place not in brackets)
    is_clear = len(topics) == 1 and len(topics[0]) == 1
    return bare, int(topics[0][0]) if is_clear else NO_TOPIC


def entities_meant(text: str, facts: FactTable) -> NDArray[np.int32]:
    """The entity with this id, or else all entities, ascending, with this name.

    Where ids are names, "Mother" and "mother" may be two entities, which a comparison of names would confuse.
    """
    number = facts.entity_number(text)
    return facts.find_entities(text) if number < 0 else np.array([number], np.int32)
