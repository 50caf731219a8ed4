"""Questions that come at the same time are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hmn.errors import HMNError
from hmn.qa.answer import Answers
from hmn.serve.writes.together import Together

MOST_TOGETHER = 256
"""Upper limit of questions per call, unless a single request has more."""

Answered = tuple[int, list[Answers]]
"""The version of the table that answers are from, and the answers."""


class Asked(NamedTuple):
    """A request: its questions, and the number of answers to each."""

    texts: list[str]
    k: int


class Batcher:
    """Answers the questions of several requests in one call.

    While a call runs, requests gather for the next one, and a request that finds nothing running is answered
    at once. So nobody waits for others to come, and the more come, the larger the batches are.

    Args:
        ask: answers questions: texts, and the number of answers to each.
        read: number of cells that the model reads for as many answers or fewer. Requests for more answers
            read more cells and are answered apart, so nobody's answers depend on who else asks.
    """

    def __init__(self, ask: Callable[[list[str], int], Answered], read: int) -> None:
        self._ask, self._read = ask, read
        self._together: Together[Asked, Answered] = Together(self._answer_all)

    async def ask(self, texts: list[str], k: int) -> Answered:
        """Answers to some questions, all from one version of the table."""
        return await asyncio.wrap_future(self._together.submit(Asked(texts, k)))

    def close(self) -> None:
        """Finish what was asked, and take no more."""
        self._together.close()

    def _answer_all(self, requests: Sequence[Asked]) -> list[Answered | Exception]:
        found: list[Answered | Exception] = [HMNError("not asked")] * len(requests)
        for places in self._groups(requests):
            answers = self._answer([requests[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        return found

    def _groups(self, requests: Sequence[Asked]) -> list[list[int]]:
        """Places of requests that are answered in one call: those that read as much, as many as fit."""
        groups: list[list[int]] = []
        open_groups: dict[int, tuple[list[int], int]] = {}
        for place, request in enumerate(requests):
            read = max(request.k, self._read)
            group, count = open_groups.get(read, ([], MOST_TOGETHER))
            if count + len(request.texts) > MOST_TOGETHER:
                group, count = [], 0
                groups.append(group)
            group.append(place)
            open_groups[read] = group, count + len(request.texts)
        return groups

    def _answer(self, requests: Sequence[Asked]) -> list[Answered | Exception]:
        """Answer requests in one call; if that fails, one by one, so that no other has to suffer."""
        try:
            version, answers = self._ask(
                [text for request in requests for text in request.texts],
                max(request.k for request in requests),
            )
        except Exception as error:
            if len(requests) == 1:
                return [error]
            return [answer for request in requests for answer in self._answer([request])]
        found: list[Answered | Exception] = []
        first = 0
        for request in requests:
            own = answers[first : first + len(request.texts)]
            found.append((version, [one.best(request.k) for one in own]))
            first += len(request.texts)
        return found
