"""The topic of a question is the entity in brackets; other brackets are text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import FORMS

from hmn.facts.table import FactTable
from hmn.facts.topic import entities_meant, split_topic

FACTS = FactTable.from_triples(
    [
        ("Inception", "tag", "[REC]"),
        ("Crank [High Voltage]", "tag", "High Voltage"),
        ("Up", "tag", "mother"),
        ("Psycho", "tag", "Mother"),
        ("m.01", "tag", "m.02"),
    ],
    {"m.01": ["Bob"], "m.02": ["bob"]},
)


@pytest.mark.parametrize(
    ("text", "bare", "topic"),
    [
        ("who directed [Inception]?", "who directed Inception?", "Inception"),
        ("[inception ] by whom", "inception  by whom", "Inception"),
        ("what is [[REC]]", "what is [REC]", "[REC]"),
        ("who made [Crank [High Voltage]]", "who made Crank [High Voltage]", "Crank [High Voltage]"),
        ("who made Crank [High Voltage]", "who made Crank High Voltage", "High Voltage"),
        ("[Mother]", "Mother", "Mother"),
        ("[mother]", "mother", "mother"),
        ("[MOTHER]", "MOTHER", None),
        ("[Bob] or not", "Bob or not", None),
        ("[Up] or [Psycho]", "Up or Psycho", None),
        ("[Up] or [down]", "Up or [down]", "Up"),
        ("what is [REC]", "what is [REC]", None),
        ("[nobody] ]Up[ []", "[nobody] ]Up[ []", None),
        ("[fb:m.02]", "fb:m.02", "m.02"),
    ],
)
def test_topic(text: str, bare: str, topic: str | None) -> None:
    assert split_topic(text, FACTS) == (bare, -1 if topic is None else FACTS.entity_number(topic))


@given(st.text("[]Up x", max_size=300))
def test_any_brackets(text: str) -> None:
    bare, topic = split_topic(text, FACTS)
    assert bare.replace("[", "").replace("]", "") == text.replace("[", "").replace("]", "")
    assert topic in {-1, FACTS.entity_number("Up")}
    if topic >= 0:
        assert len(text) == len(bare) + 2


def test_entities_meant() -> None:
    assert entities_meant("Mother", FACTS).tolist() == [FACTS.entity_number("Mother")]
    assert len(entities_meant("MOTHER", FACTS)) == len(entities_meant("BOB", FACTS)) == 2
    assert entities_meant("nobody", FACTS).tolist() == []


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_a_topic_in_another_form_of_unicode(usual: str, other: str) -> None:
    facts = FactTable.from_triples([(usual, "r", "x"), ("m.01", "r", "y")], {"m.01": ["Ａlan\u00a0T"]})
    assert split_topic(f"where is [{other}]", facts) == (f"where is {other}", facts.entity_number(usual))
    assert split_topic("who is [alan t]", facts) == ("who is alan t", facts.entity_number("m.01"))
