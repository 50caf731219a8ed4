from __future__ import annotations

from pathlib import Path

import pytest
from tests.serve.processes import CRASHED, STEPS, Forks
from tests.serve.test_served import ADA, QUESTIONS, WRITES, asked, directly

from hmn.errors import InUseError, JournalError
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.compact import Compacted, compact, without_journal
from hmn.serve.served import ServedModel


def written(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        for number, write in enumerate(WRITES):
            served.write(write, key=f"key {number}")


def test_the_bundle_holds_all_writes_afterwards(bundle: Path) -> None:
    assert compact(bundle) == Compacted(0, 0, None)  # it was never served
    expected = asked(directly(bundle, WRITES))
    written(bundle)
    assert asked(FactoidQA.from_pretrained(bundle)) != expected
    assert compact(bundle) == Compacted(4, 4, 25)
    assert asked(FactoidQA.from_pretrained(bundle)) == expected
    assert compact(bundle) == Compacted(4, 0, None)
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["model", "model.journal", "model.lock"]
    with ServedModel.open(bundle) as served:
        assert served.write(WRITES[0], key="key 0").repeated
        assert served.write([{"replace": [["p0", "person/job", "pilot"]]}]).version == 5
    with ServedModel.open(bundle) as served:
        assert [fact.object for fact in served.facts(subject="p0", relation="person/job").facts] == ["pilot"]
    assert compact(bundle).version == 5


def test_writes_that_come_to_nothing_are_folded_in_too(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        served.write([ADA])
        served.write([{"remove": ADA["add"]}])
    assert compact(bundle) == Compacted(2, 2, 24)
    assert compact(bundle) == Compacted(2, 0, None)


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_leaves_the_old_bundle_and_journal_or_the_new_bundle(
    bundle: Path, forks: Forks, step: str
) -> None:
    expected = asked(directly(bundle, WRITES))
    written(bundle)
    forks.start("compact_until", bundle, step)
    assert forks.until_end() == ([], CRASHED)
    swapped = STEPS.index(step) >= STEPS.index("swapped")
    assert (asked(FactoidQA.from_pretrained(bundle)) == expected) == swapped
    with ServedModel.open(bundle) as served:
        version, answers = served.ask(QUESTIONS, 3)
        assert (version, [one.as_dict() for one in answers]) == (4, expected)
        assert served.write(WRITES[1], key="key 1").repeated
    assert compact(bundle) == (Compacted(4, 0, None) if swapped else Compacted(4, 4, 25))
    assert asked(FactoidQA.from_pretrained(bundle)) == expected
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["model", "model.journal", "model.lock"]


def test_a_failure_leaves_all_as_it_was(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(bundle)
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError("no space left on device")

        patch.setattr("hmn.store.bundle.swap", full)
        with pytest.raises(Exception, match="no space left"):
            compact(bundle)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert compact(bundle) == Compacted(4, 4, 25)


def test_a_served_folder_is_left_alone(bundle: Path) -> None:
    with without_journal(bundle):  # it was never served: nothing is made beside it
        assert [path.name for path in bundle.parent.iterdir()] == ["model"]
    with ServedModel.open(bundle) as served:
        served.write([ADA])
        for change in (compact, _changed):
            with pytest.raises(InUseError, match=r"process \d+ serves or changes it"):
                change(bundle)
        served.write([{"replace": [["p0", "person/job", "pilot"]]}])
    with pytest.raises(JournalError, match=r"holds 2 writes .* fold them in first, with 'hmn compact"):
        _changed(bundle)
    assert compact(bundle).writes == 2
    _changed(bundle)


def _changed(bundle: Path) -> None:
    with without_journal(bundle):
        pass
