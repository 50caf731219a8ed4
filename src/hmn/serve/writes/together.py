"""Work done for several callers at once: one thread does it for all that came in meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Together(Generic[Item, Result]):
    """Does the same work for items of many threads, in groups and in the order in which they came.

    While a group is being worked on, the next one gathers. So a lone item does not wait, and under load one
    call of ``work`` serves many.

    Args:
        work: From the items of a group to a result, or an error, for each.
        most: Upper limit of the items of a group.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], most: int = 1_000
    ) -> None:
        self._work, self._most = work, most
        self._queue: SimpleQueue[tuple[Item, Future[Result]] | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        # a process that ends without close() does not wait for it
        self._thread = threading.Thread(target=self._run, name="hmn-together", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Result]:
        """Hand in an item; the future has its result or its error.

        Raises:
            RuntimeError: ``close`` was called.
        """
        future: Future[Result] = Future()
        with self._closing:  # so that no item comes behind the end
            if self._closed:
                raise RuntimeError("no more items are taken, expected them before close()")
            self._queue.put((item, future))
        return future

    def close(self) -> None:
        """Finish what was handed in, and take no more."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, is_last = [first], False
            while len(group) < self._most and not is_last:
                try:
                    further = self._queue.get_nowait()
                except Empty:
                    break
                if further is None:
                    is_last = True
                else:
                    group.append(further)
            self._do([(item, future) for item, future in group if future.set_running_or_notify_cancel()])
            if is_last:
                return

    def _do(self, group: Sequence[tuple[Item, Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = self._work([item for item, _ in group]) if group else []
        except Exception as error:
            results = [error] * len(group)
        for (_, future), result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
