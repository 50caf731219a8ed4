"""The plain form of a word is what people may type for it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn.qa.words.folding import folded, plain

quick = settings(max_examples=200, deadline=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoë", "zoe"),
        ("España", "ESPANA"),
        ("Straße", "STRASSE"),
        ("Łódź", "lodz"),
        ("Köln", "Koln"),
        ("Ærø", "aero"),
        ("Đà Nẵng", "da nang"),
        ("Ποιός", "ποιος"),
        ("ΟΔΟΣ", "οδος"),
        ("ёлка", "елка"),
        ("Москва́", "москва"),
        ("İstanbul", "istanbul"),
        ("IRMAK", "ırmak"),
        ("שָׁלוֹם", "שלום"),
        ("مُحَمَّد", "محمد"),
        ("أحـمد", "احمد"),
        ("إيران", "ايران"),
        ("القاهرة", "القاهره"),
        ("ليلى", "ليلي"),
        ("کابل", "كابل"),
        ("हाँ", "हां"),
        ("ज़मीन", "जमीन"),
        ("Hawaiʻi", "hawaii"),
        ("١٢٣", "123"),
        ("ｶﾞﾝﾀﾞﾑ", "ガンダム"),
        ("Ｆｕｌｌ", "full"),
        ("ﬁne", "fine"),
        ("so\u00adft\u200b", "soft"),
        ("می\u200cخواهم", "میخواهم"),
        ("M*A*S*H", "mash"),
        ("P!nk", "pink"),
        ("Ke$ha", "kesha"),
        ("C++", "c"),
    ],
)
def test_spellings_of_one_word(one: str, other: str) -> None:
    assert plain(folded(one)) == plain(folded(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("мой", "мои"),
        ("їжак", "іжак"),
        ("हिन्दी", "हन्द"),
        ("कर", "किरि"),
        ("กา", "กี"),
        ("が", "か"),
        ("서울", "서우"),
        ("ß", "s"),
    ],
)
def test_different_words(one: str, other: str) -> None:
    assert plain(folded(one)) != plain(folded(other))


@quick
@given(st.text(max_size=12))
def test_forms_of_unicode_are_one(text: str) -> None:
    forms = {folded(unicodedata.normalize(form, text)) for form in ("NFC", "NFD")}
    assert forms == {folded(text)}


@quick
@given(st.text(max_size=12))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert plain(plain(text)) == plain(text)
