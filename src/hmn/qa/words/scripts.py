"""Words by script: runs of letters where words are written apart, single characters where they are not.

Signs belong to the word that they touch, so that C, C++ and C# differ.
"""

from __future__ import annotations

import re

import regex

from hmn.qa.words.folding import folded

_CHARACTERS = (
    r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]"
    r"&&[\p{L}\p{M}\p{N}]]"
)
"""Set of the letters of scripts without spaces, and of Hangul, whose particles touch the names."""
_LETTERS = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_CHARACTERS}]"
"""Set of the letters, marks and digits of all other scripts."""
_SIGNS = r"[[+#*$@!%&=\p{Sm}\p{Sc}\p{So}]--[<>|~^`⁄−]]"
"""Set of the signs that tell names apart."""
_OPENING = r"""\s(\[{"'“‘«「『《"""
"""Characters that may stand before a point that begins a name, as in .NET."""

_TOKEN = regex.compile(
    rf"{_CHARACTERS}\p{{M}}*{_SIGNS}*|(?:(?<![^{_OPENING}])\.(?={_LETTERS}))?[{_LETTERS}{_SIGNS}]+", regex.V1
)
"""Pattern of a character with its marks and signs, or of a run of letters and signs."""
_JOINT = regex.compile(rf"(?<={_LETTERS})(?=[&+=@%]{_LETTERS})", regex.V1)
"""Places where two words meet in such a run, as in AT&T."""
_LETTER = regex.compile(r"[\p{L}\p{N}]")
"""Pattern of a letter or a digit."""
_LONE = re.compile(r"[!&]")
"""Signs that are no word if they stand alone between words."""
_PLAIN_TEXT = re.compile(r"[^+#*$@!%&=.]*(?:\.(?![a-z0-9])[^+#*$@!%&=.]*)*")
"""Pattern of an ASCII text in lower case whose signs tell nothing apart."""
_RUN = re.compile(r"[a-z0-9]+")
"""Pattern of a word in such a text."""


def words(text: str) -> list[str]:
    """Split a text into words in lower case, with their accents and with the signs that they touch."""
    if text.isascii():
        text = text.lower()
        if _PLAIN_TEXT.fullmatch(text):
            return _RUN.findall(text)
    else:
        text = folded(text)
    tokens = _TOKEN.findall(text.replace("_", " "))
    split = [word for token in tokens for word in _JOINT.split(token)]
    found = [word for word in split if _LETTER.search(word) or _is_word(word)]
    # a name of one sign, or of marks alone, is that
    return found or [word for word in split if not regex.fullmatch(r"\p{M}+", word)]


def _is_word(signs: str) -> bool:
    """Whether signs without a letter are a word among others, as in "1 + 1" and "!!!"."""
    return not _LONE.fullmatch(signs) and not regex.fullmatch(r"\p{M}+", signs)
