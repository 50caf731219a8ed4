"""A model on several ranks that is asked on rank 0 alone: the other ranks hear of each call and join in."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from hmn.errors import HMNError, RankError

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks
    from hmn.qa.answer import Answers, Trace
    from hmn.qa.factoid_qa import FactoidQA

END = b""
"""Message of rank 0 that there will be no more calls."""


class Call(NamedTuple):
    """A call of a method of the model, and where its result goes."""

    method: str
    arguments: list[Any]
    result: Future[Any]


class Lead:
    """The model on rank 0, for any number of threads; see ``follow`` for the other ranks.

    All but ``ask_all`` and ``trace`` is the model's own, and must not need other ranks.

    Args:
        model: the model on this rank.
        ranks: the processes.

    Attributes:
        failure: the error that has ended it: another rank has failed. None as long as it works.
        on_failure: called once when another rank has failed.
    """

    def __init__(self, model: FactoidQA, ranks: Ranks) -> None:
        self._model, self._ranks = model, ranks
        self.failure: RankError | None = None
        self.on_failure: Callable[[], object] = lambda: None
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._closing, self._closed = Lock(), False
        self._thread = Thread(target=self._run, name="hmn-lead", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        """What the model has."""
        return getattr(self._model, name)

    def ask_all(self, questions: list[str], k: int = 5) -> list[Answers]:
        """See ``FactoidQA.ask_all``."""
        answers: list[Answers] = self._call("ask_all", list(questions), k)
        return answers

    def trace(self, question: str, k: int = 5) -> Trace:
        """See ``FactoidQA.trace``: it shows the search of this rank's cells alone."""
        seen: Trace = self._call("trace", question, k)
        return seen

    def close(self) -> None:
        """Finish what was asked, and let the other ranks end."""
        with self._closing:
            self._closed = True
            self._calls.put(None)
        self._thread.join()

    def _call(self, method: str, *arguments: Any) -> Any:
        call = Call(method, list(arguments), Future())
        with self._closing:
            if self.failure is not None or self._closed:
                raise self.failure or RankError("the model is closed, expected it open: open it again")
            self._calls.put(call)
        return call.result.result()

    def _run(self) -> None:
        try:
            while (call := self._next()) is not None:
                try:
                    call.result.set_result(getattr(self._model, call.method)(*call.arguments))
                except RankError as error:
                    call.result.set_exception(error)
                    raise
                except Exception as error:
                    call.result.set_exception(error)
        except RankError as error:
            with self._closing:
                self.failure = error
            while not self._calls.empty():
                waiting = self._calls.get()
                if waiting is not None:
                    waiting.result.set_exception(error)
            self.on_failure()

    def _next(self) -> Call | None:
        """The next call, once the other ranks have heard of it; None at the end."""
        call: Call | None = None

        def taken() -> bytes:
            nonlocal call
            call = self._calls.get()
            return END if call is None else json.dumps([call.method, call.arguments]).encode()

        try:
            self._ranks.from_first(taken, "a question")
        except RankError as error:
            if call is not None:
                call.result.set_exception(error)
            raise
        return call


def follow(model: FactoidQA, ranks: Ranks) -> None:
    """Join in whatever ``Lead`` does on rank 0, until it ends.

    Raises:
        RankError: another rank has failed.
    """
    while sent := ranks.from_first(bytes, "a question"):
        method, arguments = json.loads(sent)
        try:
            getattr(model, method)(*arguments)
        except RankError:
            raise
        except HMNError:
            continue  # rank 0 says what is wrong with the question
