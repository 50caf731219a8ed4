"""Words that questions have had: a question does not make its own words known, and saving keeps them."""

from __future__ import annotations

from hmn.qa.known.seen_words import SeenWords

QUESTIONS = [["who", "wrote", "dune"], ["who", "wrote", "wrote", "emma"], ["how", "deep"]]


def test_words_of_no_question_are_unseen() -> None:
    seen = SeenWords.of(QUESTIONS)
    assert seen.unseen([["who", "sang", "emma"], ["deep"]]).tolist() == [False, True, False, False]
    assert SeenWords().unseen([["who"]]).tolist() == [True]


def test_a_question_that_was_counted_does_not_know_its_own_words() -> None:
    seen = SeenWords.of(QUESTIONS)
    seen.least = 2
    # "wrote" comes twice in one question, and in another
    assert seen.unseen(QUESTIONS).tolist() == [False, False, True, False, False, False, True, True, True]


def test_packing_keeps_which_words_were_seen() -> None:
    seen = SeenWords.unpacked(SeenWords.of(QUESTIONS).packed())
    assert seen.unseen([["dune", "moby", "deep"]]).tolist() == [False, True, False]
