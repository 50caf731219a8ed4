"""The words of version 0.1, which its models still read."""

from __future__ import annotations

import pytest

from hmn.qa.words.letters import words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Who wrote  The Æneid?", ["who", "wrote", "the", "æneid"]),
        ("Zoë  ÅNGSTRÖM Straße", ["zoe", "angstrom", "strasse"]),
        ("O'Neil's rock-n-roll, no. 2", ["o", "neil", "s", "rock", "n", "roll", "no", "2"]),
        ("New_York\tx__y\nz", ["new", "york", "x", "y", "z"]),
        ("İstanbul ｆｕｌｌ ﬁne", ["istanbul", "full", "fine"]),
        ("東京 Москва", ["東京", "москва"]),
        ("?! … _", []),
        ("", []),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_folded_text_folds_to_itself() -> None:
    """Also where NFKD makes capitals of signs that have no lower case of their own (the trade mark sign)."""
    assert words("Acme™ № 5") == ["acmetm", "no", "5"]
    every = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    assert not [one for one in every if words(" ".join(words(one))) != words(one)]
