"""Traditional and simplified Chinese as one, by OpenCC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.util import find_spec

import regex

from hmn.errors import MissingPackageError

INSTALL = 'pip install "hmn[chinese]"'
"""Command that installs the packages of the extra ``chinese``."""
MOST_KANA = 0.02
"""Largest share of kana among the letters of Chinese names; Japanese ones have more."""

_HAN = regex.compile(r"\p{Han}")
"""Pattern of a Chinese character, in Japanese too."""
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
"""Pattern of a kana, which is Japanese."""
_LETTER = regex.compile(r"\p{L}")
"""Pattern of a letter of any script."""


def installed() -> bool:
    """Whether OpenCC is there."""
    return find_spec("opencc") is not None


def is_chinese(names: Iterable[str]) -> bool:
    """Whether most letters of some names are Chinese."""
    text = "".join(names)
    if text.isascii():
        return False
    letters = len(_LETTER.findall(text))
    return len(_HAN.findall(text)) > letters / 2 and len(_KANA.findall(text)) <= MOST_KANA * letters


@lru_cache
def simplified() -> Callable[[str], str]:
    """A function that writes a word in simplified characters.

    Raises:
        MissingPackageError: OpenCC is not installed.
    """
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise MissingPackageError(
            f"this model takes traditional and simplified Chinese as one and needs OpenCC: {INSTALL}"
        ) from error
    # character by character: a name alone and in a question must read the same, whatever stands around it
    character = lru_cache(maxsize=1 << 16)(OpenCC("t2s").convert)

    def convert(word: str) -> str:
        return word if word.isascii() else "".join(map(character, word))

    return convert
