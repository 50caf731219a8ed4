"""A model over 3 ranks trains and answers as one in a single process does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distributed.processes import gloo, run
from tests.qa.over_ranks.models import KINDS, asked, everything, trained

from hmn.qa.factoid_qa import FactoidQA

pytestmark = gloo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_rows: list[tuple[str, ...]]) -> Path:
    place = tmp_path_factory.mktemp("over-ranks")
    # one fact more than can be shared out evenly
    facts = sorted({row[:3] for row in small_rows} | {("zan_zan", "person/wrote", "alton")})
    for name, rows in {"facts": facts, "train": small_rows[:300], "valid": small_rows[-150:]}.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        (place / f"{name}.tsv").write_text(text, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def got(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(partial(everything, folder=folder), 3, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, FactoidQA]:
    """The same models, each trained by one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {kind: trained(folder, kind) for kind in KINDS}
    finally:
        torch.set_num_threads(threads)


def near(one: Any, other: Any) -> None:
    """Figures that agree but for rounding, whatever they are in; reads depend on who has which clusters."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            if "reads" not in name and "cells_scored" not in name:
                near(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            near(first, second)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)
    else:
        assert one == other


@pytest.mark.parametrize("kind", KINDS)
def test_training_does_not_depend_on_the_number_of_ranks(
    kind: str, got: list[dict[str, Any]], alone: dict[str, FactoidQA]
) -> None:
    for one in got:
        near(one[kind]["history"], alone[kind].history)
        losses = [
            [epoch["loss"] for epoch in history] for history in (one[kind]["history"], alone[kind].history)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        for name, weight in one[kind]["weights"].items():
            assert torch.equal(weight, got[0][kind]["weights"][name])


@pytest.mark.parametrize("kind", KINDS)
def test_each_rank_has_the_keys_of_its_own_cells(kind: str, got: list[dict[str, Any]], folder: Path) -> None:
    memory = FactoidQA.from_pretrained(folder / f"{kind}-3").memory
    held = [one[kind]["own"] for one in got]
    assert sum(held) == len(memory) == 361 and max(held) - min(held) == 1
    for one in got:
        assert torch.equal(one[kind]["rows"], memory.snapshot_of(torch.tensor([360, 0, 7])))


@pytest.mark.parametrize("kind", KINDS)
def test_all_ranks_and_one_machine_answer_alike_from_the_saved_model(
    kind: str, got: list[dict[str, Any]], folder: Path
) -> None:
    one_machine = asked(FactoidQA.from_pretrained(folder / f"{kind}-3"), folder)
    for one in got:
        near(one[kind]["loaded"], one_machine)
        near(one[kind]["asked"], one_machine)


def test_what_several_ranks_cannot_do_is_refused(got: list[dict[str, Any]]) -> None:
    for one in got:
        changing, index, learning, run, model = one["refused"]
        assert "save the model" in changing
        assert "from_pretrained" in index
        assert "exact or cluster" in learning
        for refusal in (run, model):
            assert refusal.startswith(f"rank 1 of {len(got)} and rank 0 differ in ")
        assert "settings of training" in run and "the saved model" in model


def test_a_stopped_run_goes_on_from_its_checkpoint(
    got: list[dict[str, Any]], alone: dict[str, FactoidQA], folder: Path
) -> None:
    for one in got:
        near(one["resumed"], alone["exact"].history)
    assert not (folder / "resumed-3.run" / "checkpoint").exists()
