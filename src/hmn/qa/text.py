"""From text to numbers: words, and the hashed features (the word, its character n-grams, pairs of words).

Hashing needs no vocabulary, so a name that was never seen still shares its n-grams with the questions that
ask for it, and a table of facts may grow after training.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ragged import Ragged, offsets

_WORD = re.compile(r"\w+")

SMALLEST, LARGEST = 3, 5
WHOLE_WORD, TWO_WORDS = 0, LARGEST - SMALLEST + 2
KINDS = TWO_WORDS + 1
"""Kinds of features: 0 a whole word, 1 to 3 its n-grams of 3 to 5 characters, 4 two words in a row."""


def words(text: str) -> list[str]:
    """Split a text into words: lower case, without accents and punctuation."""
    if text.isascii():
        return _WORD.findall(text.lower().replace("_", " "))
    # decomposed before and after: signs such as the trade mark's have capitals in them, and no lower case
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return _WORD.findall(plain.replace("_", " "))


class WordBags(NamedTuple):
    """Texts as sequences of words, and each word as a bag of hashed features.

    Attributes:
        length: ``(B,)`` words a text, W in all; at least one each (a text without words has an empty one).
        feature: words' features, W rows.
        kind: ``(len(feature.flat),)`` the kind of each.
        pair: ``(W - B,)`` hashed feature of each two words in a row of a text.
        words: the words of each text themselves.
    """

    length: NDArray[np.int64]
    feature: Ragged
    kind: NDArray[np.int64]
    pair: NDArray[np.int64]
    words: list[list[str]]


class TextBags(NamedTuple):
    """Texts as one bag of hashed features each, in a single array.

    Attributes:
        feature: B rows.
        kind: ``(len(feature.flat),)`` the kind of each.
    """

    feature: Ragged
    kind: NDArray[np.int64]


class Texts:
    """Many texts, featurised once, from which batches are taken.

    Args:
        texts: M texts.
        bits: features are hashed into ``2 ** bits`` rows.
    """

    def __init__(self, texts: Iterable[str], bits: int) -> None:
        self.bits = bits
        number: dict[str, int] = {}
        split = ([number.setdefault(word, len(number)) for word in words(text) or [""]] for text in texts)
        self.word = Ragged.of(split)
        self.vocabulary = list(number)
        featurised = [word_features(word, bits) for word in number]
        self.feature = Ragged.of(features for features, _ in featurised)
        self.kind = Ragged.of(kinds for _, kinds in featurised).flat

    def __len__(self) -> int:
        """Number of texts, M."""
        return self.word.rows

    def word_bags(self, texts: NDArray[np.int64]) -> WordBags:
        """The given texts, word by word."""
        return self.bags_of(self.word.take(texts))

    def bags_of(self, word: Ragged) -> WordBags:
        """Texts given as rows of word numbers, word by word."""
        spelled = [[self.vocabulary[one] for one in word.row(row)] for row in range(word.rows)]
        return WordBags(word.length, *self._features(word), self._pairs(word), spelled)

    def text_bags(self, texts: NDArray[np.int64]) -> TextBags:
        """The given texts, each as the bag of all features of its words and pairs of words."""
        word = self.word.take(texts)
        (feature, kind), pair = self._features(word), self._pairs(word)
        # the pairs of a text stand behind its words' features
        of_words = feature.start[word.start]
        pairs = word.length - 1
        start = of_words + offsets(pairs)
        flat, kinds = np.empty(start[-1], np.int64), np.full(start[-1], TWO_WORDS, np.int64)
        place = np.arange(len(feature.flat)) + np.repeat(offsets(pairs)[:-1], np.diff(of_words))
        flat[place], kinds[place] = feature.flat, kind
        of_pair = np.ones(start[-1], bool)
        of_pair[place] = False
        flat[of_pair] = pair
        return TextBags(Ragged(start, flat), kinds)

    def _features(self, word: Ragged) -> tuple[Ragged, NDArray[np.int64]]:
        """Features of each word, and their kinds."""
        places = self.feature.places(word.flat)
        feature = Ragged(offsets(self.feature.length[word.flat]), self.feature.flat[places])
        return feature, self.kind[places]

    def _pairs(self, word: Ragged) -> NDArray[np.int64]:
        """Hash each two words in a row of a text, from the hashes of both."""
        whole = self.feature.flat[self.feature.start[word.flat]].astype(np.uint64)
        last = np.zeros(len(whole), bool)
        last[word.start[1:] - 1] = True
        first, second = whole[~last], np.roll(whole, -1)[~last]
        mixed = (first * np.uint64(0x9E3779B97F4A7C15) + second) * np.uint64(0xC2B2AE3D27D4EB4F)
        return (mixed >> np.uint64(64 - self.bits)).astype(np.int64)


@lru_cache(maxsize=1 << 16)
def word_features(word: str, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hashed features of a word and their kinds: the word itself, and its n-grams with the ends marked."""
    features, kinds = [hashed("w:" + word, bits)], [WHOLE_WORD]
    marked = f"<{word}>"
    for size in range(SMALLEST, LARGEST + 1):
        for start in range(len(marked) - size + 1):
            features.append(hashed(marked[start : start + size], bits))
            kinds.append(1 + size - SMALLEST)
    return np.array(features, np.int64), np.array(kinds, np.int64)


def hashed(feature: str, bits: int) -> int:
    """Row of a feature, 0 to ``2 ** bits - 1``; the same on every machine."""
    return zlib.crc32(feature.encode("utf-8", "surrogatepass")) & ((1 << bits) - 1)
