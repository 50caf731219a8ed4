from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.serve.processes import Forks

from hmn.errors import BundleError, DataError, InUseError, JournalError, KeyReuseError
from hmn.qa.answer import Answers
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve import served as module
from hmn.serve.journal import Journal, Written, fingerprint, journal_path
from hmn.serve.served import ServedModel
from hmn.serve.writes.operations import checked, packed

QUESTIONS = [
    "what is the job of person 0",
    "where was person 3 born",
    "what did ada lovelace write",
    "what is the job of nick5",
]
ADA = {"add": [["q1", "person/wrote", "q2"]], "names": {"q1": ["Ada Lovelace"], "q2": ["Notes"]}}
WRITES: list[list[dict[str, Any]]] = [
    [ADA],
    [{"replace": [["p0", "person/job", "baker"], ["p5", "person/job", "job0"]]}],
    [
        {"remove": [["p3", "person/born_in", "town0"]]},
        {"add": [["p3", "person/born_in", "town9"]], "names": {"town9": ["Ulm"], "p3": ["Dr. Three"]}},
    ],
    [{"remove": [["q1", "person/wrote", "q2"]]}, {"add": [["q1", "person/wrote", "letters"]]}],
]


def asked(model: FactoidQA) -> list[dict[str, Any]]:
    return [answers.as_dict() for answers in model.ask_all(QUESTIONS, 3)]


def directly(bundle: Path, writes: list[list[dict[str, Any]]]) -> FactoidQA:
    """The model with the same changes, made by its own methods."""
    model = FactoidQA.from_pretrained(bundle)
    for step in (step for write in writes for step in write):
        if "add" in step:
            model.add_facts(step["add"], step.get("names"))
        elif "replace" in step:
            model.replace_facts(step["replace"], step.get("names"))
        else:
            model.remove_facts(step["remove"], ignore_missing=step.get("ignore_missing", False))
    return model


def job_of(person: str, answers: Answers) -> list[str]:
    """The jobs of a person, from what all cells of the model answer."""
    found = [fact for answer in answers for fact in answer.facts]
    return [fact.object for fact in found if fact[:2] == (person, "person/job")]


def test_writes_are_answered_at_once_and_after_a_restart(bundle: Path) -> None:
    expected = asked(directly(bundle, WRITES))
    untouched = {file.name: file.read_bytes() for file in bundle.iterdir()}
    with ServedModel.open(bundle) as served:
        written = [served.write(write) for write in WRITES]
        assert written == [
            Written(1, 1, 0, 0),
            Written(2, 2, 2, 0),
            Written(3, 1, 1, 0),
            Written(4, 1, 1, 0),
        ]
        version, answers = served.ask(QUESTIONS, 3)
        assert (version, [one.as_dict() for one in answers]) == (4, expected)
    with ServedModel.open(bundle) as served:
        version, answers = served.ask(QUESTIONS, 3)
        assert (version, [one.as_dict() for one in answers]) == (4, expected)
        assert served.write([ADA]).version == 5
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == untouched
    assert asked(FactoidQA.from_pretrained(bundle)) != expected


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([{"remove": [["p0", "person/job", "job3"]]}], r"does not have \('p0', 'person/job', 'job3'\)"),
        ([ADA, {"remove": [["nobody", "person/job", "job0"]]}], "does not have"),
        ([ADA, {"remove": "p0"}], "operation 2: .*expected rows of three texts"),
        ([], "there is no operation"),
    ],
)
def test_a_write_that_is_refused_changes_nothing(bundle: Path, operations: Any, message: str) -> None:
    with ServedModel.open(bundle) as served:
        before = served.ask(QUESTIONS, 3)
        with pytest.raises(DataError, match=message):
            served.write(operations, key="key")
        assert served.ask(QUESTIONS, 3) == before
        assert served.write([ADA], key="key").version == 1  # the key is free
    with Journal(journal_path(bundle), fingerprint(bundle)) as journal:
        assert [(version, packed(found)) for version, found in journal.read()] == [
            (1, packed(checked([ADA])))
        ]


def test_the_last_fact_stays(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        facts = [fact[:3] for fact in served.facts(limit=1000).facts]
        assert len(facts) == 24
        with pytest.raises(DataError, match="no fact would be left"):
            served.write([{"remove": facts}])
        assert served.write([{"remove": facts[1:]}]).removed == 23
        assert [fact[:3] for fact in served.facts().facts] == facts[:1]


def test_a_key_writes_once_and_is_remembered(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        first = served.write([ADA], key="a")
        assert served.write([ADA], key="a") == first._replace(repeated=True)
        served.write([{"remove": [["q1", "person/wrote", "q2"]]}])
        assert served.write([ADA], key="a") == first._replace(repeated=True)
        assert served.facts(subject="q1").facts == []
        with pytest.raises(KeyReuseError, match="idempotency key 'a'"):
            served.write([{"add": [["q3", "person/wrote", "q2"]]}], key="a")
        for key in ("", "x" * 201, 3):
            with pytest.raises(DataError, match="expected a text of 1 to 200 characters"):
                served.write([ADA], key=key)  # type: ignore[arg-type]
    with ServedModel.open(bundle) as served:
        assert served.write([ADA], key="a") == first._replace(repeated=True)
        assert served.version == 2


def test_writes_that_come_together_share_a_commit(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own result: a key that comes twice, a refusal, a write that builds on another."""
    with ServedModel.open(bundle) as served:
        commits = []
        append = served._journal.append

        def slow(entries: Any) -> None:
            commits.append(len(entries))
            time.sleep(0.2)
            append(entries)

        monkeypatch.setattr(served._journal, "append", slow)
        waiting = [served.submit([{"add": [["first", "person/job", "job0"]]}])]
        while not commits:
            time.sleep(0.001)
        gone = [{"remove": [["q1", "person/wrote", "q2"]]}]
        for operations, key in (([ADA], "a"), ([ADA], "a"), (gone, "a"), (gone, None), (gone, None)):
            waiting.append(served.submit(operations, key))
        results = [future.exception() or future.result() for future in waiting]
        assert commits == [1, 2]
        assert results[0] == Written(1, 1, 0, 0)
        assert results[1:3] == [Written(2, 1, 0, 0), Written(2, 1, 0, 0, repeated=True)]
        assert isinstance(results[3], KeyReuseError)
        assert results[4] == Written(3, 0, 1, 0)
        assert isinstance(results[5], DataError)
        assert served.facts(subject="q1").facts == [] and served.version == 3


def test_a_disk_that_refuses_changes_nothing(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        before = served.ask(QUESTIONS, 3)
        pages = served._journal._connection.execute("PRAGMA page_count").fetchone()[0]
        served._journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [[f"n{number}", "person/job", "job0"] for number in range(5_000)]
        with pytest.raises(JournalError, match="nothing was changed"):
            served.write([{"add": many}], key="many")
        assert served.ask(QUESTIONS, 3) == before
        served._journal._connection.execute("PRAGMA max_page_count = 1000000")
        assert served.write([{"add": many}], key="many") == Written(1, 5_000, 0, 0)


def test_a_model_that_fails_half_way_is_read_again(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = FactoidQA.add_facts

    def fails(model: FactoidQA, *_: Any) -> None:
        add(model, [("half", "person/job", "job0")])
        monkeypatch.setattr(FactoidQA, "add_facts", add)
        raise RuntimeError("no memory")

    expected = asked(directly(bundle, WRITES[:2]))
    with ServedModel.open(bundle) as served:
        served.write(WRITES[0])
        monkeypatch.setattr(FactoidQA, "add_facts", fails)
        assert served.write(WRITES[1]).version == 2
        assert [one.as_dict() for one in served.ask(QUESTIONS, 3)[1]] == expected
        assert served.facts(subject="half").facts == []
        monkeypatch.setattr(FactoidQA, "add_facts", fails)
        monkeypatch.setattr(module, "loaded", lambda *_, **__: 1 / 0)
        served.write(WRITES[2])  # it is on disk, though nothing more is answered
        for call in (lambda: served.ask(QUESTIONS), lambda: served.write([ADA]), served.facts):
            with pytest.raises(JournalError, match="could not follow its journal"):
                call()
    monkeypatch.undo()
    with ServedModel.open(bundle) as served:
        assert [one.as_dict() for one in served.ask(QUESTIONS, 3)[1]] == asked(directly(bundle, WRITES[:3]))


def test_only_one_serves_a_folder(bundle: Path, forks: Forks) -> None:
    process = forks.start("hold", bundle)
    assert forks.line() == ["ack", "0"]
    with pytest.raises(InUseError, match=rf"process {process} serves or changes it"):
        ServedModel.open(bundle)
    os.kill(process, signal.SIGKILL)
    assert forks.until_end() == ([], -signal.SIGKILL)
    with ServedModel.open(bundle):
        with pytest.raises(InUseError, match=f"process {os.getpid()} serves"):
            ServedModel.open(bundle)
        forks.start("hold", bundle)
        assert forks.until_end() == ([], 1)
    ServedModel.open(bundle).close()


def test_what_is_no_bundle_is_refused_and_nothing_is_made_beside_it(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        ServedModel.open(tmp_path / "typo")
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    (bundle / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"config.json: damaged"):
        ServedModel.open(bundle)
    shutil.rmtree(bundle)


def test_a_journal_of_another_bundle_is_refused(bundle: Path) -> None:
    with ServedModel.open(bundle) as served:
        served.write([ADA])
    other = FactoidQA.from_pretrained(bundle)
    other.add_facts([("p0", "person/job", "pilot")])
    other.save_pretrained(bundle)
    with pytest.raises(JournalError, match=r"holds 1 writes for bundle \w{12}, but the bundle beside it is"):
        ServedModel.open(bundle)
    journal_path(bundle).unlink()
    with ServedModel.open(bundle) as served:
        assert served.version == 0


def test_a_closed_model_says_so(bundle: Path) -> None:
    served = ServedModel.open(bundle)
    pending = [served.submit([{"add": [[f"n{number}", "person/job", "x"]]}]) for number in range(20)]
    served.close()
    served.close()
    assert [future.result().version for future in pending] == list(range(1, 21))
    for call in (lambda: served.ask(QUESTIONS), lambda: served.write([ADA]), served.facts):
        with pytest.raises(JournalError, match="it is closed"):
            call()


def test_readers_see_the_table_of_their_version(bundle: Path) -> None:
    """Eight readers and a writer, for a second; each write changes two facts."""
    with ServedModel.open(bundle) as served:
        end, wrong, reads = time.monotonic() + 1, [], [0] * 8
        served.write([{"replace": [[person, "person/job", "job 1"] for person in ("p0", "p1")]}])

        def read(reader: int) -> None:
            while time.monotonic() < end:
                version, (first, second) = served.ask(QUESTIONS[:1] * 2, 200)
                page = served.facts(subject="p1", relation="person/job")
                jobs = (job_of("p0", first), job_of("p1", second))
                if jobs != ([f"job {version}"], [f"job {version}"]):
                    wrong.append((version, jobs))
                if [fact.object for fact in page.facts] != [f"job {page.version}"]:
                    wrong.append(page)
                reads[reader] += 1

        threads = [threading.Thread(target=read, args=(reader,)) for reader in range(8)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            job = f"job {served.version + 1}"
            served.write([{"replace": [["p0", "person/job", job], ["p1", "person/job", job]]}])
        for thread in threads:
            thread.join()
        assert wrong == []
        assert served.version > 2 and min(reads) > 0


@pytest.mark.slow
def test_a_killed_server_answers_from_what_it_acknowledged(bundle: Path, forks: Forks) -> None:
    rng, version = random.Random(5), 0
    for _ in range(6):
        process = forks.start("write_model", bundle)
        for _ in range(rng.randrange(1, 12)):
            assert forks.line() == ["ack", str(version + 1)]
            version += 1
        time.sleep(rng.random() * 0.02)
        os.kill(process, signal.SIGKILL)
        lines, status = forks.until_end()
        assert status == -signal.SIGKILL
        version += len(lines)
        with ServedModel.open(bundle) as served:
            assert version <= served.version <= version + 1
            version = served.version
            job = f"job of version {version}"
            same = directly(bundle, [[{"replace": [["p0", "person/job", job], ["p1", "person/job", job]]}]])
            assert [one.as_dict() for one in served.ask(QUESTIONS, 3)[1]] == asked(same)
