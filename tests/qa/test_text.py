"""Texts as numbers agree with a slow reading of the definitions, bit by bit and word by word."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn.facts.ragged import Ragged, offsets
from hmn.qa.text import MANY, TWO_WORDS, Texts, features_of, hashed, word_features
from hmn.qa.words.folding import plain
from hmn.qa.words.splitting import LETTERS, SCRIPTS, Splitting, splitting

quick = settings(max_examples=60, deadline=None)
some_rows = st.lists(st.lists(st.integers(0, 1000), max_size=5), max_size=8)
some_texts = st.lists(
    st.lists(
        st.sampled_from(
            ["new", "New", "york", "é", "o'neil", "of", "?!", "x_y", "2", "Straße", "C++", "東京!", "p!nk"]
        ),
        max_size=5,
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [" ".join(row) for row in rows])


@quick
@given(rows=some_rows, data=st.data())
def test_ragged_agrees_with_lists(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.of(rows)
    assert ragged.start.dtype == ragged.flat.dtype == np.int64
    assert ragged.rows == len(rows)
    assert ragged.length.tolist() == [len(row) for row in rows]
    assert [ragged.row(at).tolist() for at in range(len(rows))] == rows
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1))) if rows else []
    chosen = np.array(wanted, np.int64)
    taken = ragged.take(chosen)
    assert [taken.row(at).tolist() for at in range(taken.rows)] == [rows[one] for one in wanted]
    assert ragged.flat[ragged.places(chosen)].tolist() == [value for one in wanted for value in rows[one]]


def test_offsets() -> None:
    assert offsets([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert offsets([]).tolist() == [0]


def slow_crc(data: bytes) -> int:
    """CRC-32 (IEEE 802.3) one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_word(spelled: str, bits: int, way: Splitting) -> list[tuple[int, int]]:
    """(feature, kind) of a word: 0 itself, 1 to 3 its n-grams of 3 to 5 characters, 5 its spelling."""
    word = way.plain(spelled) or spelled
    marked = "<" + word + ">"
    grams = [(marked[at:end], end - at) for at in range(len(marked)) for end in range(at + 3, at + 6)]
    found = [("w:" + word, 0)] + [(gram, size - 2) for gram, size in grams if len(gram) == size]
    found += [("s:" + spelled, 5)] * (spelled != word)
    return [(slow_crc(one.encode()) % 2**bits, kind) for one, kind in found]


def slow_pair(first: str, second: str, bits: int, way: Splitting) -> int:
    one, two = (slow_word(word, bits, way)[0][0] for word in (first, second))
    mixed = ((one * 0x9E3779B97F4A7C15 + two) * 0xC2B2AE3D27D4EB4F) % 2**64
    return int(mixed >> (64 - bits))


@quick
@given(
    texts=some_texts,
    bits=st.sampled_from([3, 8, 18, 26]),
    way=st.sampled_from([splitting(LETTERS), splitting(SCRIPTS)]),
    data=st.data(),
)
def test_bags_agree_with_the_slow_reading(
    texts: list[str], bits: int, way: Splitting, data: st.DataObject
) -> None:
    many = Texts(texts, bits, way)
    assert len(many) == len(texts)
    numbers = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=6))
    taken = np.array(numbers, np.int64)
    split = [way.words(texts[number]) or [""] for number in numbers]
    pairs = [[slow_pair(*two, bits, way) for two in pairwise(row)] for row in split]

    by_word = many.word_bags(taken)
    assert by_word.words == split
    assert by_word.length.tolist() == [len(row) for row in split]
    assert by_word.pair.tolist() == [pair for row in pairs for pair in row]
    found = list(zip(by_word.feature.flat.tolist(), by_word.kind.tolist(), strict=True))
    start = by_word.feature.start
    for at, word in enumerate(word for row in split for word in row):
        assert sorted(found[start[at] : start[at + 1]]) == sorted(slow_word(word, bits, way))
    assert start[-1] == len(found)

    by_text = many.text_bags(taken)
    found = list(zip(by_text.feature.flat.tolist(), by_text.kind.tolist(), strict=True))
    start = by_text.feature.start
    assert len(start) == len(numbers) + 1 and start[-1] == len(found)
    for at, (row, two) in enumerate(zip(split, pairs, strict=True)):
        wanted = [one for word in row for one in slow_word(word, bits, way)] + [(pair, 4) for pair in two]
        assert sorted(found[start[at] : start[at + 1]]) == sorted(wanted)


def test_words_that_differ_in_spelling_alone_are_alike() -> None:
    texts = Texts(["zoë c++", "Zoe C ★ ☆", "c# ★"], 8, splitting(SCRIPTS))
    numbers = {word: number for number, word in enumerate(texts.vocabulary)}
    alike = {word: texts.vocabulary[texts.alike[number]] for word, number in numbers.items()}
    assert alike == {"zoë": "zoë", "zoe": "zoë", "c++": "c++", "c": "c++", "c#": "c++", "★": "★", "☆": "☆"}
    same = Texts(["zoë", "Zoe"], 8, splitting(LETTERS))
    assert same.vocabulary == ["zoe"] and same.alike.tolist() == [0]


def test_an_empty_text_is_one_empty_word() -> None:
    bags = Texts(["", "?"], 8, splitting(SCRIPTS)).word_bags(np.array([0, 1]))
    assert bags.length.tolist() == [1, 1]
    assert bags.words == [[""], [""]]
    assert bags.pair.tolist() == []
    assert bags.feature.length.tolist() == [1, 1]


def test_no_texts_at_all() -> None:
    nothing = np.zeros(0, np.int64)
    assert Texts([], 8, splitting(SCRIPTS)).text_bags(nothing).feature.rows == 0
    assert Texts(["a b"], 8, splitting(SCRIPTS)).word_bags(nothing).pair.tolist() == []


@pytest.mark.slow
@quick
@given(text=st.text(max_size=12), bits=st.integers(1, 26))
def test_features_stay_in_the_table(text: str, bits: int) -> None:
    features, kinds = word_features(text, plain(text), bits)
    assert len(features) == len(kinds)
    assert all(0 <= one < 2**bits for one in features)
    assert set(kinds) <= set(range(splitting(SCRIPTS).kinds)) - {TWO_WORDS}
    pair = Texts([f"{text} and {text}"], bits, splitting(SCRIPTS)).word_bags(np.array([0])).pair
    assert ((pair >= 0) & (pair < 2**bits)).all()


def test_hashing_spreads_features() -> None:
    assert len({hashed(str(number), 16) for number in range(2000)}) > 1900


def test_every_process_makes_the_same_numbers() -> None:
    check = (
        "import numpy as np; from hmn.qa.text import Texts; from hmn.qa.words.splitting import splitting; "
        "texts = ['who wrote Ada', 'Zoë of New York', '東京 C++']; "
        "t = Texts(texts, 18, splitting('scripts')).text_bags(np.arange(3)); "
        "print(t.feature.flat.tolist(), t.kind.tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", check],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1 and len(printed.pop()) > 100


@pytest.mark.parametrize("count", [3, MANY, 2 * MANY])
def test_many_words_have_the_features_that_each_has_alone(count: int) -> None:
    kinds = ["", "a", "ab", "word", "café", "東京", "C++", "!", "straße", "o'neil", "ÅNGSTRÖM", "p!nk"]
    words = [
        kinds[number % len(kinds)] + (str(number) if number >= len(kinds) else "") for number in range(count)
    ]
    forms = [plain(word) for word in words]
    assert count < 9 or {form.isascii() for form in forms} == {True, False}
    feature, kind = features_of(words, forms, 18)
    wanted = [word_features(word, form, 18) for word, form in zip(words, forms, strict=True)]
    assert feature.rows == count
    assert [feature.row(row).tolist() for row in range(count)] == [row.tolist() for row, _ in wanted]
    assert kind.tolist() == [number for _, row in wanted for number in row.tolist()]
