"""Requests are answered together, and each as if it had come alone."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from hmn.errors import DataError
from hmn.qa.answer import Answer, Answers
from hmn.serve.http.batching import MOST_TOGETHER, Answered, Batcher


class Recorder:
    """Answers questions with themselves, once it may go on, and keeps what it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[tuple[list[str], int]] = []
        self.entered, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, texts: list[str], k: int) -> Answered:
        self.entered.set()
        self.may_go_on.wait(10)
        time.sleep(self.seconds)
        self.calls.append((texts, k))
        if "bad" in texts:
            raise DataError("a bad question")
        return len(self.calls), [
            Answers([Answer([f"{text} {rank}"], 0.5, [], 1) for rank in range(k)], 0.9, 0.5, 7.0)
            for text in texts
        ]


async def together(
    recorder: Recorder, requests: list[tuple[list[str], int]]
) -> list[Answered | BaseException]:
    """The answers to requests, all but the first of which come while that one is answered."""
    batcher = Batcher(recorder, read=10)
    asked = [asyncio.create_task(batcher.ask(*requests[0]))]
    while not recorder.entered.is_set():
        await asyncio.sleep(0.01)
    asked += [asyncio.create_task(batcher.ask(*request)) for request in requests[1:]]
    await asyncio.sleep(0.05)
    recorder.may_go_on.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(batcher.close)
    return answers


def test_those_that_wait_share_a_call_and_get_their_own_answers() -> None:
    recorder = Recorder()
    found = asyncio.run(together(recorder, [(["a"], 1), (["b", "c"], 2), (["d"], 3)]))
    assert recorder.calls == [(["a"], 1), (["b", "c", "d"], 3)]
    version, answers = found[1]  # type: ignore[misc]
    assert version == 2
    assert [[answer.answers for answer in own] for own in answers] == [[["b 0"], ["b 1"]], [["c 0"], ["c 1"]]]
    assert answers[0].known and answers[0].known_probability == 0.9 and answers[0].reads == 7.0
    assert answers[0][0].probability == pytest.approx(0.45)  # its share, as if it had been asked alone


def test_those_that_read_more_are_answered_apart() -> None:
    recorder = Recorder()
    asyncio.run(together(recorder, [(["a"], 1), (["b"], 20), (["c"], 10), (["d"], 20), (["e"], 30)]))
    assert recorder.calls[1:] == [(["b", "d"], 20), (["c"], 10), (["e"], 30)]


def test_a_bad_question_spoils_no_other() -> None:
    found = asyncio.run(together(Recorder(), [(["a"], 1), (["b"], 1), (["bad"], 1), (["c"], 1)]))
    assert isinstance(found[2], DataError)
    assert [one[1][0][0].answers for one in (found[1], found[3])] == [["b 0"], ["c 0"]]  # type: ignore[index]


def test_calls_have_a_largest_size() -> None:
    recorder = Recorder()
    half = ["x"] * (MOST_TOGETHER // 2)
    asyncio.run(together(recorder, [(["a"], 1), (half, 1), (half, 1), (["b"], 1)]))
    assert [len(texts) for texts, _ in recorder.calls] == [1, MOST_TOGETHER, 1]


def test_those_who_ask_again_at_once_stay_together() -> None:
    recorder = Recorder(seconds=0.1)
    recorder.may_go_on.set()

    async def ask_on() -> None:
        batcher = Batcher(recorder, read=10)

        async def client(text: str) -> None:
            for _ in range(4):
                await batcher.ask([text], 1)

        await asyncio.gather(*map(client, "abcd"))
        await asyncio.to_thread(batcher.close)

    asyncio.run(ask_on())
    # the first is alone, as it does not wait for others; in the end its place is empty
    assert [len(texts) for texts, _ in recorder.calls] == [1, 3, 4, 4, 4]


def test_those_who_gave_up_are_not_answered() -> None:
    recorder = Recorder()

    async def give_up() -> None:
        batcher = Batcher(recorder, read=10)
        first, second, third = (asyncio.create_task(batcher.ask([text], 1)) for text in "abc")
        while not recorder.entered.is_set():
            await asyncio.sleep(0.01)
        second.cancel()
        recorder.may_go_on.set()
        found = await asyncio.gather(first, third)
        assert [answers[0][0].answers for _, answers in found] == [["a 0"], ["c 0"]]
        await asyncio.to_thread(batcher.close)

    asyncio.run(give_up())
    assert [texts for texts, _ in recorder.calls] == [["a"], ["c"]]
