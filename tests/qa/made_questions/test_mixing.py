from __future__ import annotations

import numpy as np
import pytest

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.config import TrainConfig
from hmn.qa.made_questions.mixing import GIVEN_SHARE, question_writer, training_questions

FACTS = FactTable.from_triples([(f"city {n}", "country", f"land {n % 7}") for n in range(40)])


def given(count: int) -> QuestionSet:
    rows = [
        (f"city {n % 40}", "country", f"land {n % 40 % 7}", f"in which country is it {n}")
        for n in range(count)
    ]
    return QuestionSet.from_rows(FACTS, rows)


def test_without_questions_they_are_made_and_the_encoder_stays_as_it_is() -> None:
    lesson = training_questions(None, FACTS, TrainConfig())
    assert len(lesson.questions) == 5_000
    assert (
        lesson.made
        == "5,000 questions made from the table, in the language 'en' (--question-language chooses another)"
    )
    assert lesson.config == TrainConfig(encoder_learning_rate=0.0)
    assert training_questions(None, FACTS, TrainConfig(encoder_learning_rate=1e-4)).config == TrainConfig(
        encoder_learning_rate=1e-4
    )


def test_few_given_questions_are_repeated_and_mixed_with_made_ones() -> None:
    few = given(50)
    lesson = training_questions(few, FACTS, TrainConfig())
    own = np.array([text in set(few.text) for text in lesson.questions.text])
    assert np.mean(own) == pytest.approx(GIVEN_SHARE, abs=0.01)
    assert set(few.text) <= set(lesson.questions.text)
    assert lesson.config.encoder_learning_rate == 5e-5
    assert lesson.made.endswith("--made-questions 0 leaves them out")
    assert training_questions(few, FACTS, TrainConfig(), hops=2).questions is few


def test_with_many_given_questions_nothing_changes() -> None:
    many = given(100)
    lesson = training_questions(many, FACTS, TrainConfig())
    assert lesson.questions is many
    assert lesson.made == ""
    assert lesson.config == TrainConfig(encoder_learning_rate=5e-5)


@pytest.mark.parametrize("count", [0, 30])
def test_the_number_of_made_questions_can_be_given(count: int) -> None:
    few = given(3)
    questions = training_questions(few, FACTS, TrainConfig(made_questions=count)).questions
    assert len(questions) == (3 if count == 0 else 30 + 3 * round(30 / 3 / 3))
    assert len(training_questions(None, FACTS, TrainConfig(made_questions=7)).questions) == 7


def test_no_questions_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="made_questions is 0 and there are no other questions"):
        training_questions(None, FACTS, TrainConfig(made_questions=0))


def test_the_language_is_said() -> None:
    assert question_writer(FACTS, "de")[1] == "in the language 'de'"
    assert question_writer(FACTS, "none")[1] == "in the bare words of relations and names"
    unknown = FactTable.from_triples([("a", "xyz", "b")])
    assert question_writer(unknown)[1].startswith("half in bare words and half in 'en', for want of")
    with pytest.raises(ConfigError, match="question_language is 'xx'"):
        question_writer(FACTS, "xx")


def test_plain_questions_read_well_and_ask_for_each_relation_first() -> None:
    rows = [(f"city {n}", "country", f"land {n % 7}") for n in range(40)]
    table = FactTable.from_triples(
        [*rows, ("city 3", "place/head_of_state", "Ann"), ("city 5", "river", "Po")]
    )
    plain = training_questions(None, table, TrainConfig()).plain
    assert {"what is the head of state of city 3?", "what is the river of city 5?"} < set(plain[:3])
    assert len(set(plain)) == len(plain) == 20
    assert all(text in {f"what is the country of city {n}?" for n in range(40)} for text in plain[3:])
    chinese = FactTable.from_triples([("中国", "首都", "北京"), ("日本", "首都", "东京")])
    assert set(training_questions(None, chinese, TrainConfig()).plain) == {
        "中国的首都是什么？",
        "日本的首都是什么？",
    }
    assert training_questions(given(3), FACTS, TrainConfig()).plain == ()
