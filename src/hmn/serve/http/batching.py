"""Questions that come at the same time are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from hmn.errors import HMNError
from hmn.qa.answer import Answers

MOST_TOGETHER = 256
"""Upper limit of questions per call, unless a single request has more."""
PAUSE = 0.05
"""How long to wait for a further request, as a share of the time that the last call took."""
MOST_PAUSES = 20
"""Upper limit of the pauses before a call."""

Answered = tuple[int, list[Answers]]
"""The version of the table that answers are from, and the answers."""


class Asked(NamedTuple):
    """A request: its questions, and the number of answers to each."""

    texts: list[str]
    k: int


class Batcher:
    """Answers the questions of several requests in one call.

    While a call runs, requests gather for the next one. Those who ask again as soon as they have an answer
    are waited for: after a call for several requests, the next one begins once no request has come for a
    twentieth of the time that the last one took. A lone request does not wait.

    Args:
        ask: answers questions: texts, and the number of answers to each.
        read: number of cells that the model reads for as many answers or fewer. Requests for more answers
            read more cells and are answered apart, so nobody's answers depend on who else asks.
    """

    def __init__(self, ask: Callable[[list[str], int], Answered], read: int) -> None:
        self._ask, self._read = ask, read
        self._thread = ThreadPoolExecutor(1, "hmn-ask")
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._busy = False  # a call runs, or is about to
        self._pause = 0.0  # seconds to wait for further requests

    async def ask(self, texts: list[str], k: int) -> Answered:
        """Answers to some questions, all from one version of the table."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answered] = loop.create_future()
        self._waiting.append((Asked(texts, k), future))
        if not self._busy:
            self._busy = True
            self._gather(loop, 0, MOST_PAUSES)
        return await future

    def close(self) -> None:
        """Finish what was asked, and take no more."""
        self._thread.shutdown()

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, pauses: int) -> None:
        """Start a call, or look again after a pause if more requests may come."""
        count = len(self._waiting)
        if seen < count < MOST_TOGETHER and pauses and self._pause:
            loop.call_later(self._pause, self._gather, loop, count, pauses - 1)
            return
        # those who gave up are not answered
        group = [(asked, future) for asked, future in self._waiting if not future.done()]
        self._waiting = []
        self._busy = bool(group)
        if group:
            call = loop.run_in_executor(self._thread, self._answer_all, [asked for asked, _ in group])
            call.add_done_callback(partial(self._hand_out, loop, loop.time(), group))

    def _hand_out(
        self,
        loop: asyncio.AbstractEventLoop,
        began: float,
        group: list[tuple[Asked, asyncio.Future[Answered]]],
        call: asyncio.Future[list[Answered | Exception]],
    ) -> None:
        """Give everybody what was found, then see to the next call."""
        for (_, future), found in zip(group, call.result(), strict=True):
            if future.done():
                continue
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)
        self._pause = PAUSE * (loop.time() - began) if len(group) > 1 else 0.0
        self._gather(loop, 0, MOST_PAUSES)

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
