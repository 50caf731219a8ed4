"""Exchanges between ranks, and ranks that end or hang."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tests.distributed.processes import HUNG, LIMIT, failing, gloo, run

from hmn.distributed import Ranks
from hmn.errors import ConfigError, RankError


@pytest.mark.slow
@gloo
def test_a_rank_that_hangs_or_ends_is_named_by_all_others(tmp_path: Path) -> None:
    got = run(failing, 3, tmp_path)
    assert not got[1]
    for rank in (0, 2):
        assert got[rank]["hung"].startswith(f"RankError: rank 1 of 3 does not answer within {LIMIT:g} s")
        assert LIMIT <= got[rank]["seconds"] < HUNG
        assert got[rank]["ended"].startswith("RankError: rank 1 of 3 has ended or lost its connection")


def test_one_rank_exchanges_with_itself() -> None:
    ranks, rows = Ranks(), torch.arange(6.0).view(3, 2)
    came, counts = ranks.exchange(rows, [3], "rows")
    assert torch.equal(came, rows) and counts == [3]
    assert (ranks.rank, ranks.size, ranks.bytes_sent) == (0, 1, 0)


def test_without_torchrun_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    ranks = Ranks.join(timeout=5)
    assert (ranks.rank, ranks.size, ranks.timeout) == (0, 1, 5.0)
    assert not torch.distributed.is_initialized()
    done: list[int] = []
    ranks.in_turns((done.append(step) for step in range(3)), "turns")  # type: ignore[func-returns-value]
    assert done == [0, 1, 2]
    assert ranks.tell(b"all", "words") == b"all" and ranks.report(b"one", "words") == [b"one"]
    assert ranks.tell(b"", "words") == b"" and ranks.report(b"", "words") == [b""]


@pytest.mark.parametrize("timeout", [0, -1.0, True, "10", float("nan"), float("inf")])
def test_a_time_limit_is_a_number_of_seconds(timeout: object) -> None:
    with pytest.raises(ConfigError, match="expected a number of seconds above 0"):
        Ranks(timeout=timeout)  # type: ignore[arg-type]


def test_an_error_in_one_process_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Ranks().together():
        raise ZeroDivisionError


def test_two_threads_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, rows = Ranks(), torch.ones(1, 2)
    swap, errors = ranks._swap, list[BaseException | None]()

    def while_another_exchanges(*arguments: object) -> None:
        monkeypatch.setattr(ranks, "_swap", swap)
        with ThreadPoolExecutor(1) as pool:
            errors.append(pool.submit(ranks.exchange, rows, [1], "rows").exception())
        swap(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ranks, "_swap", while_another_exchanges)
    ranks.exchange(rows, [1], "rows")
    assert isinstance(errors[0], RankError) and "while another of its threads" in str(errors[0])
    with pytest.raises(RankError, match="expected one thread at a time"):
        ranks.exchange(rows, [1], "rows")
