from __future__ import annotations

from random import Random

from hmn.qa.made_questions.made_up_words import LONGEST, SHORTEST, MadeUpWords

KNOWN = ["berlin", "merlin", "perlmutter", "bernstein", "linden"]


def test_made_up_words_are_new_and_made_of_the_same_letters() -> None:
    words, rng = MadeUpWords(KNOWN), Random(0)
    drawn = {words.draw(rng) for _ in range(200)} - {""}
    assert len(drawn) > 10
    assert not drawn & set(KNOWN)
    triples = {f"^^{word}$"[place : place + 3] for word in KNOWN for place in range(len(word) + 1)}
    for word in drawn:
        assert SHORTEST <= len(word) <= LONGEST
        assert {f"^^{word}"[place : place + 3] for place in range(len(word))} <= triples


def test_where_nothing_new_can_be_drawn_there_is_no_word() -> None:
    assert MadeUpWords([]).draw(Random(0)) == ""
    assert MadeUpWords(["abcd"]).draw(Random(0)) == ""


def test_a_seed_decides() -> None:
    assert MadeUpWords(KNOWN).draw(Random(3)) == MadeUpWords(reversed(KNOWN)).draw(Random(3))
