from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.paper.made import PRESET

from hmn.errors import DataError
from hmn.paper.data import Data, Files


def test_the_checksum_is_that_of_the_contents(files: Files, tmp_path: Path) -> None:
    before = files.checksum()
    tested = replace(files, test=files.valid)
    assert tested.checksum() == before, "test questions are no part of what is trained"
    assert files.test_checksum() is None
    assert tested.test_checksum() != replace(files, test=files.train).test_checksum()
    copy = tmp_path / "elsewhere.tsv"
    copy.write_bytes(Path(files.train).read_bytes())
    assert replace(files, train=str(copy)).checksum() == before
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert replace(files, train=str(copy)).checksum() != before
    with pytest.raises(DataError, match=r"nothing\.tsv"):
        replace(files, valid="nothing.tsv").checksum()


def test_a_miniature_is_the_same_whatever_is_asked_in_the_test(files: Files) -> None:
    preset = replace(PRESET, facts=200, train=50, valid=20)
    part = Data.read(files, preset)
    tested = Data.read(replace(files, test=files.train), preset)
    assert part.facts.entities.equals(tested.facts.entities)
    assert [part.facts.fact(cell) for cell in range(200)] == [tested.facts.fact(cell) for cell in range(200)]
    assert len(tested.asked["test"]) == 20
    assert bool((tested.asked["test"].cell >= 0).all())


def test_a_miniature_holds_the_facts_that_its_questions_ask_for(files: Files) -> None:
    preset = replace(PRESET, facts=200, train=50, valid=20)
    whole, part = Data.read(files, PRESET), Data.read(files, preset)
    assert (len(whole.facts), len(part.facts)) == (360, 200)
    assert (len(part.asked["train"]), len(part.asked["valid"])) == (50, 20)
    for name, questions in part.asked.items():
        for number in range(len(questions)):
            ours = part.facts.fact(int(questions.cell[number]))
            theirs = whole.facts.fact(int(whole.asked[name].cell[number]))
            assert ours == theirs
            assert questions.text[number] == whole.asked[name].text[number]


@pytest.mark.parametrize("name", ["facts", "names", "train", "valid", "test", "model", "transe_facts"])
def test_files_that_are_gone_are_noticed_before_anything_runs(files: Files, name: str) -> None:
    files.check()
    with pytest.raises(DataError, match=r"gone.*expected"):
        replace(files, **{name: "gone"}).check()
