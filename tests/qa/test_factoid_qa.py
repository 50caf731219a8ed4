from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.qa.small import SIZES, TRAINING, Split

from hmn.errors import BundleError, ConfigError, DataError, NotFittedError, ShapeError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome
from hmn.qa.text import bags_of


@pytest.fixture(scope="module")
def qa(small_facts: FactTable, small_split: Split) -> FactoidQA:
    return FactoidQA(small_facts, **SIZES).fit(*small_split, quiet=True, **TRAINING)


@pytest.mark.slow
def test_five_lines_of_python(small_files: Path) -> None:
    facts = FactTable.read(small_files / "facts.tsv")
    qa = FactoidQA(facts, **SIZES).fit(
        small_files / "train.tsv", valid=small_files / "valid.tsv", quiet=True, **TRAINING
    )
    qa.save_pretrained(small_files / "model")
    again = FactoidQA.from_pretrained(small_files / "model")
    fact = facts.fact(0)
    [answer, *_] = again.ask(f"where was {fact.subject_name} born?")
    assert answer.facts[0] == fact
    assert answer.answers == [fact.object_name]
    assert again.evaluate(small_files / "valid.tsv").questions == 280 - (1080 - len(facts) * 3)


def test_probabilities_are_those_of_a_softmax_over_the_k_best_cells(qa: FactoidQA) -> None:
    question = "where was anybody born"
    found = qa.ask(question, 10)
    assert found.known_probability is not None
    assert sum(answer.probability for answer in found) == pytest.approx(found.known_probability)
    key = qa.memory.snapshot().double()
    with torch.no_grad():
        query = qa.network.input_module(bags_of([question], qa.config.table_bits, qa.cells.splitting))
    score = (key @ query[0].double()).sort(descending=True).values[:10]
    expected = torch.softmax(score, 0) * found.known_probability
    assert [answer.probability for answer in found] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-9)


def test_a_higher_precision_says_known_less_often(qa: FactoidQA, small_split: Split) -> None:
    texts = [*small_split[1].text, "who directed the yellow submarine", "which book is about lo tor su"]

    def known(precision: float) -> int:
        return sum(bool(found.known) for found in copy.deepcopy(qa).use_precision(precision).ask_all(texts))

    assert known(0.0) >= known(0.9) >= known(0.99) > 0
    assert known(0.0) >= known(0.99) and known(0.99) < len(texts)
    with pytest.raises(ConfigError, match=r"precision is 1\.5, expected 0\.0 to 0\.99"):
        qa.use_precision(1.5)


def test_figures_say_how_many_answers_count_as_known(qa: FactoidQA, small_split: Split) -> None:
    """As many as ``ask`` says, also of questions whose fact is gone, and in more than a batch."""
    changed, (train, valid) = copy.deepcopy(qa).use_precision(0.95), small_split
    fact = [changed.facts.fact(int(cell))[:3] for cell in train.cell]
    changed.remove_facts(sorted(set(fact[: len(fact) // 2]) - set(fact[len(fact) // 2 :])))
    start = np.zeros(len(train) + 1, np.int64)  # no right answer is needed to know what counts as known
    questions = QuestionSet(train.text, np.full(len(train), -1), start, np.zeros(0, np.int32))
    said = [found.known for found in changed.ask_all(questions.text)]
    found = changed.evaluate(questions)
    assert found.known_share == found.as_dict()["known_share"] == np.mean(said)
    assert 0.2 < np.mean(said) < 0.9
    assert copy.deepcopy(qa).use_precision(0.0).evaluate(valid).known_share == 1.0


def test_a_model_that_did_not_learn_to_tell_is_measured_without(
    qa: FactoidQA, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, before = copy.copy(qa), qa.evaluate(small_split[1])
    silent.judge = None
    monkeypatch.setattr("hmn.nn.reader.KMIPSReader.read", lambda *_: pytest.fail("questions are read again"))
    found = silent.evaluate(small_split[1])
    assert found.known_share is None and before.known_share is not None
    assert found.pair_accuracy == before.pair_accuracy


def test_training_again_is_measured_without_the_judge_of_before(qa: FactoidQA, small_split: Split) -> None:
    twice = copy.deepcopy(qa)
    twice.fit(*small_split, quiet=True, **TRAINING)
    assert [epoch["valid_known_share"] for epoch in twice.history] == [None] * 3
    assert twice.judge is not None and twice.judge is not qa.judge


def test_a_question_must_have_words_and_a_model_training(qa: FactoidQA, small_facts: FactTable) -> None:
    with pytest.raises(DataError, match="no word"):
        qa.ask("?!")
    with pytest.raises(ConfigError, match="k is 0"):
        qa.ask("who", 0)
    with pytest.raises(NotFittedError, match="fit"):
        FactoidQA(small_facts).ask("who")
    with pytest.raises(ConfigError, match="there is no setting 'knn'"):
        FactoidQA(small_facts, knn=3)
    with pytest.raises(DataError, match=r"gone\.tsv"):
        FactoidQA("gone.tsv")


def test_words_that_nothing_knows_are_no_error(qa: FactoidQA) -> None:
    assert qa.ask("жук 日本 🇯🇵 " + "x" * 5000)
    assert qa.ask("a " * 2000)


def test_an_index_refuses_queries_of_another_model(qa: FactoidQA) -> None:
    with pytest.raises(ShapeError, match="query has 3 features but the memory has 48"):
        qa.network.reader.index.search(torch.zeros(1, 3), 1)


@pytest.mark.slow
def test_backwards_relations_answer_with_the_subject(small_rows: list[tuple[str, str, str, str]]) -> None:
    facts = FactTable.from_triples(sorted({row[:3] for row in small_rows}), inverse=True)
    rows = [
        (town, "~person/born_in", person, f"who comes from {town}")
        for person, relation, town, _ in small_rows
        if relation == "person/born_in"
    ]
    train = QuestionSet.from_rows(facts, [*small_rows, *rows])
    qa = FactoidQA(facts, **SIZES).fit(train, quiet=True, **TRAINING)
    answer = qa.ask("who comes from bergen")[0]
    born = {row[0] for row in small_rows if row[1:3] == ("person/born_in", "bergen")}
    assert {fact.object for fact in answer.facts} <= born
    assert answer.count == len(born)


@pytest.mark.slow
def test_objects_in_cells_tell_facts_of_one_pair_apart(
    small_facts: FactTable, small_rows: list[tuple[str, str, str, str]]
) -> None:
    triples = {row[:3] for row in small_rows} | {(row[0], row[1], "elsewhere") for row in small_rows}
    facts = FactTable.from_triples(sorted(triples))
    train = QuestionSet.from_rows(facts, small_rows[:800])
    qa = FactoidQA(facts, objects=True, **SIZES).fit(train, quiet=True, **TRAINING)
    assert len(qa.cells) == len(facts) == 2 * len(small_facts)
    outcomes: list[Outcome] = []
    found = qa.evaluate(QuestionSet.from_rows(facts, small_rows[800:]), outcomes=outcomes)
    assert found.pair_accuracy is not None
    assert found.pair_accuracy > 0.9
    assert {len(outcome.best) for outcome in outcomes} == {1}, "no two facts tie"


@pytest.mark.slow
def test_the_real_data_fit_the_memory(data: Path) -> None:
    facts = FactTable.read(data / "facts.tsv", data / "names.tsv")
    qa = FactoidQA(facts)
    assert len(facts) == 81_004
    assert 71_302 < len(qa.cells) < 100_000
    held = qa.cells.facts
    assert np.array_equal(np.unique(held.flat), np.arange(81_004)), "every fact is in a cell"


@pytest.mark.parametrize("k", [1.5, "3", None, True, 0, -1, 2**31, 2**63, [1]])
def test_an_odd_k_is_refused_in_words(clustered: FactoidQA, small_split: Split, k: Any) -> None:
    for act in (lambda: clustered.ask("who", k), lambda: clustered.evaluate(small_split[1], k)):
        with pytest.raises(ConfigError, match=f"k is {re.escape(repr(k))}, expected"):
            act()
    with pytest.raises(ConfigError, match=f"k is {re.escape(repr(k))}, expected"):
        FactoidQA(clustered.facts, k=k)


def test_more_answers_than_cells_are_all_the_answers(clustered: FactoidQA, small_split: Split) -> None:
    question, count = small_split[1].text[0], len(clustered.cells)
    assert clustered.ask(question, 2**31 - 1) == clustered.ask(question, count)
    assert clustered.ask(question, np.int64(3)) == clustered.ask(question, 3)
    few = small_split[1].take(np.arange(2))
    every = clustered.evaluate(few, 2**31 - 1)
    assert every.recall_at_k == clustered.evaluate(few, len(clustered.facts)).recall_at_k


def test_questions_of_any_kind_of_list(clustered: FactoidQA, small_split: Split) -> None:
    texts = small_split[1].text[:3]
    expected = clustered.ask_all(texts)
    for questions in (tuple(texts), iter(texts), np.array(texts), dict.fromkeys(texts), (t for t in texts)):
        assert clustered.ask_all(questions) == expected
    assert torch.equal(clustered.encode(np.array(texts)), clustered.encode(texts))
    assert clustered.ask_all([]) == []
    assert clustered.ask(np.str_(texts[0])) == clustered.ask(texts[0])
    for text in (texts[0] + "\0", "\ud800 " + texts[0]):
        assert clustered.ask(text)
    for odd in ("who", b"who", None, 3):
        with pytest.raises(DataError, match=r"questions is .*, expected a list of texts"):
            clustered.ask_all(odd)
    for odd in (b"who", None, 3, ["who"]):
        with pytest.raises(DataError, match=r"a question is .*, expected text"):
            clustered.ask(odd)  # type: ignore[arg-type]
    for odd in ("", " ", "??", "\0", "\ud800"):
        with pytest.raises(DataError, match="has no word in it"):
            clustered.ask(odd)


@pytest.mark.parametrize("path", [None, b"m", 3, [("a", "r", "b")]], ids=repr)
def test_what_is_no_path_is_refused(clustered: FactoidQA, path: Any) -> None:
    file = path[0] if isinstance(path, list) else path  # questions may lie in a list of files
    for odd, act in (
        (path, lambda: FactoidQA(path)),
        *([] if path is None else [(file, lambda: FactoidQA(clustered.facts).fit(path))]),
        (file, lambda: clustered.evaluate(path)),
    ):
        with pytest.raises(DataError, match=re.escape(f"path is {odd!r}, expected the path of a file")):
            act()
    for act in (lambda: FactoidQA.from_pretrained(path), lambda: clustered.save_pretrained(path)):
        with pytest.raises(BundleError, match="not a valid path"):
            act()


def test_questions_about_another_table_are_refused(clustered: FactoidQA, small_split: Split) -> None:
    other = FactoidQA(FactTable.from_triples([("a", "r", "b")]))
    with pytest.raises(DataError, match="the questions ask for facts that the model's table lacks"):
        other.fit(small_split[0])
    row = QuestionSet.from_rows(clustered.facts, [("where", clustered.facts.fact(3).object)])
    with pytest.raises(DataError, match="lacks"):
        other.fit(row)


def test_settings_may_be_numbers_of_numpy(small_facts: FactTable) -> None:
    config = FactoidQA(small_facts, hidden=np.int64(8), dropout=np.float32(0.5)).config
    assert (type(config.hidden), type(config.dropout)) == (int, float) and config.hidden == 8
    for odd in (8.0, np.float64(8), np.bool_(1), True):
        with pytest.raises(ConfigError, match=r"hidden is .*, expected int"):
            FactoidQA(small_facts, hidden=odd)


def test_a_place_that_cannot_be_written_is_refused_before_training(
    small_facts: FactTable, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmn.qa.factoid_qa.build_network", lambda *_, **__: pytest.fail("training began"))
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    qa = FactoidQA(small_facts)
    for out in ("file/m", "x" * 250, "/proc/m", "m\0", "\udcff"):
        with pytest.raises(BundleError, match=": "):
            qa.fit(*small_split, out=tmp_path / out, quiet=True)
    with pytest.raises(BundleError, match="not a bundle"):
        qa.fit(*small_split, out=tmp_path / "full", overwrite=True, quiet=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="holds something already"):
        qa.fit(*small_split, out=".", quiet=True)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "full", "thesis.txt"]


COUNTRIES = {
    "France": ("Paris", "Euro", "French", "1958"),
    "Germany": ("Berlin", "Euro", "German", "1949"),
    "Japan": ("Tokyo", "Yen", "Japanese", "1947"),
    "Brazil": ("Brasília", "Real", "Portuguese", "1822"),
    "Kenya": ("Nairobi", "Shilling", "Swahili", "1963"),
}
MADE: dict[str, Any] = {**TRAINING, "made_questions": 1500, "quiet": True}


def countries() -> FactTable:
    relations = ("capital", "currency", "official_language", "year of the constitution")
    return FactTable.from_triples(
        [(name, *pair) for name, row in COUNTRIES.items() for pair in zip(relations, row, strict=True)]
    )


def test_a_table_alone_is_enough_to_train(tmp_path: Path) -> None:
    qa = FactoidQA(countries(), **SIZES).fit(out=tmp_path / "model", **MADE)
    asked = {
        f"{start} {name}{end}": row[place]
        for name, row in COUNTRIES.items()
        for place, start, end in [
            (0, "what is the capital of", "?"),
            (0, "please tell me the capital city of", ""),
            (1, "which currency do they have in", "?"),
            (2, "what language is spoken in", ""),
            (3, "in which year did the constitution come to", ""),
        ]
    }
    answers = qa.ask_all(asked, k=1)
    right = [answer[0].answers == [name] for answer, name in zip(answers, asked.values(), strict=True)]
    assert np.mean(right) >= 0.9
    # the same questions are made again, so the run is known as the same
    again = FactoidQA(countries(), **SIZES).fit(out=tmp_path / "model", resume=True, **MADE)
    assert torch.equal(again.memory.snapshot(), qa.memory.snapshot())


def test_a_table_that_changed_is_asked_about_as_it_is() -> None:
    qa = FactoidQA(countries(), **SIZES).fit(**{**MADE, "made_questions": 64, "epochs": 1})
    qa.remove_facts([("Kenya", "capital", "Nairobi")])
    qa.add_facts([("Peru", "capital", "Lima")])
    qa.fit(**{**MADE, "made_questions": 64, "epochs": 1})
    assert {qa.facts.entity_id(int(entity)) for entity in qa.facts.object} >= {"Lima"}
    assert len(qa.facts) == 20
