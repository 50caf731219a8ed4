"""Spellings of one word: what people may type differently and still mean the same.

A word has a spelling, such as "zoë" or "c++", and a plain form, here "zoe" and "c". Two spellings with one
plain form are found by each other, and the exact one wins.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import regex

_IGNORED = regex.compile(r"[\p{Default_Ignorable_Code_Point}ـ]|(?<=i)\u0307")
"""Characters that nobody sees or types: zero-width ones, soft hyphens, the Arabic tatweel, the dot of i."""
_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)
"""Decimal digits of all other scripts."""
_MARK = regex.compile(
    r"[\p{M}&&[\p{Inherited}\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}\p{Syriac}]]", regex.V1
)
"""Marks that are often left out: accents, and vowel signs of Hebrew and Arabic, but not of Indic scripts."""
_ACCENTED = regex.compile(r"[\p{Latin}\p{Greek}\p{Arabic}]", regex.V1)
"""Letters that are what they are without their accents. In Cyrillic й and и are two letters."""
_SIGN = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
"""Signs in a word."""
_INSIDE = {regex.compile(r"(?<=\w)\$+(?=\w)"): "s", regex.compile(r"(?<=\w)!+(?=\w)"): "i"}
"""Signs that stand for letters inside a word, as in "ke$ha" and "p!nk"."""

_ALIKE = {
    # Latin letters that do not decompose
    **{"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"},
    # Cyrillic: ё is mostly written е, and the others differ by stress alone
    **{"ё": "е", "ѐ": "е", "ѝ": "и"},
    # Arabic script, Persian and Urdu: forms of alef, yeh, heh and kaf that people type for one another
    **{"ٱ": "ا", "ى": "ي", "ی": "ي", "ے": "ي", "ې": "ي", "ئ": "ي", "ؤ": "و", "ة": "ه", "ۀ": "ه", "ە": "ه"},
    **{"ہ": "ه", "ھ": "ه", "ۃ": "ه", "ۂ": "ه", "ک": "ك", "ڪ": "ك"},
    # Devanagari, Bengali, Gurmukhi, Gujarati and Oriya: candrabindu as anusvara, and no nukta
    **{"ँ": "ं", "ঁ": "ং", "ਁ": "ਂ", "ઁ": "ં", "ଁ": "ଂ"},
    **dict.fromkeys("़়਼઼଼", ""),
    # letters that are apostrophes
    **dict.fromkeys("ʹʺʻʼʽʾʿˈ", ""),
    "×": "x",
}
"""Plain forms of letters that no rule gives."""


def folded(text: str) -> str:
    """A text in lower case and in one form of Unicode: full width, ligatures and digits as the usual ones."""
    # decompose before and after: casefold leaves signs such as "™" alone, whose decomposition has capitals
    lower = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    visible: str = _IGNORED.sub("", lower)
    digits = _DIGIT.sub(lambda found: str(unicodedata.decimal(found[0], found[0])), visible)
    return unicodedata.normalize("NFKC", digits)


def plain(word: str) -> str:
    """The plain form of a folded word: without accents and signs. It is empty for signs alone."""
    if word.isalnum() and word.isascii():
        return word
    for sign, letter in _INSIDE.items():
        word = sign.sub(letter, word)
    letters: str = _SIGN.sub("", "".join(map(_plain_character, word)))
    return letters


@lru_cache(maxsize=1 << 16)
def _plain_character(character: str) -> str:
    """The plain form of one character."""
    if character.isascii():
        return character
    if character in _ALIKE:
        return _ALIKE[character]
    if _MARK.match(character):
        return ""
    base = unicodedata.normalize("NFD", character)
    if len(base) > 1 and _ACCENTED.match(character):
        return "".join(map(_plain_character, base))
    return character
