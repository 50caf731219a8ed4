"""Text as numbers: words, and hashed features of them (whole words, character n-grams, pairs of words).

Hashing needs no vocabulary. So a name that training never saw still shares n-grams with the questions about
it, and a table of facts may grow after training.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.ragged import Ragged, offsets, spans
from hmn.qa.words.checksums import crc32_of_spans
from hmn.qa.words.splitting import Splitting

SMALLEST = 3
"""Length of the shortest n-grams, in characters."""
LARGEST = 5
"""Length of the longest n-grams, in characters."""

MANY = 512
"""Number of words from which on it takes less time to hash them together."""

WHOLE_WORD = 0
"""Kind of the features that stand for whole words. Kinds 1 to 3 are n-grams of 3 to 5 characters."""
TWO_WORDS = LARGEST - SMALLEST + 2
"""Kind of the features that stand for two words in a row."""
SPELLING = TWO_WORDS + 1
"""Kind of the features that stand for a word with its accents and signs, if it has any."""


class WordBags(NamedTuple):
    """B texts as sequences of words, W in all, each of them a bag of hashed features.

    Attributes:
        length: ``(B,)`` number of words per text, at least 1: a text without words has one empty word.
        feature: Features of the words, in W rows.
        kind: ``(len(feature.flat),)`` kind of each feature.
        pair: ``(W - B,)`` hashed features of the pairs of adjacent words.
        words: The words themselves, text by text.
    """

    length: NDArray[np.int64]
    feature: Ragged
    kind: NDArray[np.int64]
    pair: NDArray[np.int64]
    words: list[list[str]]


class TextBags(NamedTuple):
    """B texts, each as one bag of hashed features.

    Attributes:
        feature: Features of the texts, in B rows.
        kind: ``(len(feature.flat),)`` kind of each feature.
    """

    feature: Ragged
    kind: NDArray[np.int64]


class Texts:
    """M texts with their features, from which batches are taken.

    Args:
        texts: The texts.
        bits: Logarithm of the number of rows that features are hashed into: ``2 ** bits``.
        splitting: How texts are split into words.

    Attributes:
        word: Numbers of the words, in M rows.
        vocabulary: Distinct words as they are spelled; a word's number is its position here.
        alike: ``(len(vocabulary),)`` number of the first word with the same plain form.
        feature: Features of each distinct word.
        kind: Kinds of these features.
    """

    def __init__(self, texts: Iterable[str], bits: int, splitting: Splitting) -> None:
        self.bits, self.splitting = bits, splitting
        number: dict[str, int] = {}
        words = splitting.words
        split = ([number.setdefault(word, len(number)) for word in words(text) or [""]] for text in texts)
        self.word = Ragged.of(split)
        self.vocabulary = list(number)
        plain = [splitting.plain(word) for word in number]
        first = {form: number for number, form in reversed(list(enumerate(plain)))}
        self.alike = np.array(
            [first[form] if form else number for number, form in enumerate(plain)], np.int64
        )
        self.feature, self.kind = features_of(self.vocabulary, plain, bits)

    def __len__(self) -> int:
        """Number of texts, M."""
        return self.word.rows

    def word_bags(self, texts: NDArray[np.int64]) -> WordBags:
        """Texts ``(B,)``, given by number, word by word."""
        return self.bags_of(self.word.take(texts))

    def bags_of(self, word: Ragged) -> WordBags:
        """Texts, given as rows of word numbers, word by word."""
        spelled = [[self.vocabulary[number] for number in word.row(row)] for row in range(word.rows)]
        return WordBags(word.length, *self._features(word), self._pairs(word), spelled)

    def text_bags(self, texts: NDArray[np.int64]) -> TextBags:
        """Texts ``(B,)``, given by number, each as the bag of all features of its words and word pairs."""
        word = self.word.take(texts)
        (feature, kind), pair = self._features(word), self._pairs(word)
        # each text's bag holds the features of its words first, then those of its pairs
        of_words = feature.start[word.start]
        pairs = word.length - 1
        start = of_words + offsets(pairs)
        flat, kinds = np.empty(start[-1], np.int64), np.full(start[-1], TWO_WORDS, np.int64)
        position = np.arange(len(feature.flat)) + np.repeat(offsets(pairs)[:-1], np.diff(of_words))
        flat[position], kinds[position] = feature.flat, kind
        of_pair = np.ones(start[-1], bool)
        of_pair[position] = False
        flat[of_pair] = pair
        return TextBags(Ragged(start, flat), kinds)

    def _features(self, word: Ragged) -> tuple[Ragged, NDArray[np.int64]]:
        """Features of each word, and their kinds."""
        positions = self.feature.places(word.flat)
        feature = Ragged(offsets(self.feature.length[word.flat]), self.feature.flat[positions])
        return feature, self.kind[positions]

    def _pairs(self, word: Ragged) -> NDArray[np.int64]:
        """Hashed features of adjacent words, from the hashes of both."""
        whole = self.feature.flat[self.feature.start[word.flat]].astype(np.uint64)
        last = np.zeros(len(whole), bool)
        last[word.start[1:] - 1] = True
        first, second = whole[~last], np.roll(whole, -1)[~last]
        mixed = (first * np.uint64(0x9E3779B97F4A7C15) + second) * np.uint64(0xC2B2AE3D27D4EB4F)
        return (mixed >> np.uint64(64 - self.bits)).astype(np.int64)


def features_of(words: Sequence[str], plain: Sequence[str], bits: int) -> tuple[Ragged, NDArray[np.int64]]:
    """Features of words, a row for each, and their kinds; see ``word_features``."""
    whole = [form or word for word, form in zip(words, plain, strict=True)]
    together = np.array([len(words) >= MANY and form.isascii() for form in whole], bool)
    alone = {row: word_features(words[row], plain[row], bits) for row in np.flatnonzero(~together).tolist()}
    if len(alone) == len(words):
        rows = alone.values()
        return Ragged.of(features for features, _ in rows), Ragged.of(kinds for _, kinds in rows).flat
    # 1. In ASCII a character is a byte: the marked words stand one after the other in an array.
    # 2. Each word's row has room for the word, its n-grams by size, and its spelling.
    chosen = np.flatnonzero(together).tolist()
    spelled = np.array([whole[row] != words[row] for row in chosen], bool)
    marked = "".join(f"<{whole[row]}>" for row in chosen)
    data, size = np.frombuffer(marked.encode(), np.uint8), np.array([len(whole[row]) + 2 for row in chosen])
    grams = [np.maximum(size - n + 1, 0) for n in range(SMALLEST, LARGEST + 1)]
    length = np.zeros(len(words), np.int64)
    length[list(alone)] = [len(kinds) for _, kinds in alone.values()]
    length[chosen] = 1 + sum(grams) + spelled
    start = offsets(length)
    feature, kind = np.empty(start[-1], np.int64), np.empty(start[-1], np.int64)
    for row, (features, kinds) in alone.items():
        feature[start[row] : start[row + 1]], kind[start[row] : start[row + 1]] = features, kinds
    place, begin = start[chosen], offsets(size)[:-1]
    feature[place] = [hashed("w:" + whole[row], bits) for row in chosen]
    kind[place] = WHOLE_WORD
    place = place + 1
    for more, count in enumerate(grams):
        places, first = spans(place, place + count)[1], spans(begin, begin + count)[1]
        feature[places] = crc32_of_spans(data, first, SMALLEST + more) & ((1 << bits) - 1)
        kind[places] = 1 + more
        place = place + count
    feature[place[spelled]] = [hashed("s:" + words[row], bits) for row in chosen if whole[row] != words[row]]
    kind[place[spelled]] = SPELLING
    return Ragged(start, feature), kind


@lru_cache(maxsize=1 << 16)
def word_features(word: str, plain: str, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hashed features of a word and their kinds: the word, its n-grams with both ends marked, its spelling.

    Args:
        word: The word as it is spelled.
        plain: Its plain form, which gives all features but the last; empty for signs alone.
        bits: Logarithm of the number of rows.
    """
    whole = plain or word
    features, kinds = [hashed("w:" + whole, bits)], [WHOLE_WORD]
    marked = f"<{whole}>"
    # in ASCII a character is a byte: encoding a word once takes half as long as encoding its n-grams
    encoded, last = marked.encode("utf-8", "surrogatepass"), (1 << bits) - 1
    for size in range(SMALLEST, LARGEST + 1):
        starts = range(len(marked) - size + 1)
        if marked.isascii():
            features += [zlib.crc32(encoded[start : start + size]) & last for start in starts]
        else:
            features += [hashed(marked[start : start + size], bits) for start in starts]
        kinds += [1 + size - SMALLEST] * len(starts)
    if whole != word:
        features.append(hashed("s:" + word, bits))
        kinds.append(SPELLING)
    return np.array(features, np.int64), np.array(kinds, np.int64)


def hashed(feature: str, bits: int) -> int:
    """Row of a feature, from 0 to ``2 ** bits - 1``. It is the same on every machine."""
    return zlib.crc32(feature.encode("utf-8", "surrogatepass")) & ((1 << bits) - 1)


def bags_of(texts: Sequence[str], bits: int, splitting: Splitting) -> WordBags:
    """Texts ``(B,)`` word by word; see ``Texts`` for the arguments."""
    return Texts(texts, bits, splitting).word_bags(np.arange(len(texts)))


def checked_texts(questions: object) -> list[str]:
    """Questions as a list.

    Raises:
        DataError: They are not several texts.
    """
    if not isinstance(questions, Iterable) or isinstance(questions, (str, bytes)):
        raise DataError(f"questions is {questions!r:.80}, expected a list of texts: use ask for one question")
    texts = list(questions)
    for text in texts:
        if not isinstance(text, str):
            raise DataError(
                f"a question is {text!r:.80}, expected text: decode bytes, and leave out missing questions"
            )
    return texts


def checked_questions(questions: object, splitting: Splitting) -> list[str]:
    """Questions that are to be answered, as a list.

    Raises:
        DataError: They are not several texts, or one has no word in it.
    """
    texts = checked_texts(questions)
    for text in texts:
        if not any(map(splitting.plain, splitting.words(text))):
            raise DataError(f"the question {text!r:.80} has no word in it, expected a question in words")
    return texts
