"""Words as version 0.1 split them: runs of letters and digits, without accents and signs.

Models of that version and the paper's experiments keep to it. A run of Chinese is one word here.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+")
"""Pattern of a word."""


def words(text: str) -> list[str]:
    """Split a text into words in lower case, without accents and punctuation."""
    if text.isascii():
        return _WORD.findall(text.lower().replace("_", " "))
    # decompose twice: casefold leaves signs such as "™" alone, whose decomposition has capitals
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return _WORD.findall(plain.replace("_", " "))
