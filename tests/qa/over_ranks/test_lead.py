from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from hmn.distributed import Ranks
from hmn.errors import DataError, RankError
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.over_ranks.lead import Lead


class Model:
    """Stands in for a model: it answers with what it was asked, one call at a time."""

    def __init__(self) -> None:
        self.busy, self.facts = False, ["a fact"]

    def ask_all(self, questions: list[str], k: int) -> list[str]:
        assert not self.busy
        self.busy = True
        time.sleep(0.01)
        self.busy = False
        if "?" in questions:
            raise DataError("no word in it")
        if "lost" in questions:
            raise RankError("rank 1 of 2 has ended")
        return [f"{text} {k}" for text in questions]


@pytest.fixture
def lead() -> Lead:
    return Lead(cast(FactoidQA, Model()), Ranks())


def test_many_threads_ask_one_after_the_other(lead: Lead) -> None:
    got: dict[int, Any] = {}

    def ask(number: int) -> None:
        got[number] = lead.ask_all([f"question {number}"], number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [f"question {number} {number}"] for number in range(8)}
    assert cast(Any, lead).facts == ["a fact"]
    lead.close()
    with pytest.raises(RankError, match="closed"):
        lead.ask_all(["late"])


def test_a_bad_question_concerns_nobody_else(lead: Lead) -> None:
    with pytest.raises(DataError, match="no word"):
        lead.ask_all(["?"])
    assert cast(Any, lead.ask_all(["good"], 2)) == ["good 2"]
    lead.close()


def test_a_rank_that_fails_ends_it(lead: Lead) -> None:
    heard = threading.Event()
    lead.on_failure = heard.set
    with pytest.raises(RankError, match="rank 1"):
        lead.ask_all(["lost"])
    assert heard.wait(10) and lead.failure is not None
    with pytest.raises(RankError, match="rank 1"):
        lead.ask_all(["good"])
    lead.close()
