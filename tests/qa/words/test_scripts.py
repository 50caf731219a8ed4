"""Words by script: what stands in spaces is a word, and a character where nothing does."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn.qa.words import letters
from hmn.qa.words.folding import plain
from hmn.qa.words.scripts import words

quick = settings(max_examples=200, deadline=None)
some_text = st.text(
    st.one_of(st.characters(), st.sampled_from("abc .!?+#*$@&=_-'語かーกำन्दी가ёйاُㇰ☆")), max_size=12
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("who wrote  The Æneid?", "who wrote the æneid"),
        ("O'Neil's rock-n-roll, no. 2", "o neil s rock n roll no 2"),
        ("New_York\tx__y\nz", "new york x y z"),
        ("哪个省管辖平果铝?", "哪 个 省 管 辖 平 果 铝"),
        ("谁写了《九日小園》？", "谁 写 了 九 日 小 園"),
        ("ジョン・スミスは誰", "ジ ョ ン ス ミ ス は 誰"),
        ("ﾊﾟﾝｶﾂ", "パ ン カ ツ"),
        ("น้ำ ของ", "น้ํ า ข อ ง"),
        ("서울은 어디?", "서 울 은 어 디"),
        ("हिन्दी क्या है", "हिन्दी क्या है"),
        ("Кто написал «Войну и мир»?", "кто написал войну и мир"),
        ("iPhone的价格", "iphone 的 价 格"),
        ("a\u00a0b\u3000c", "a b c"),
    ],
)
def test_words(text: str, wanted: str) -> None:
    assert words(text) == wanted.split(" ")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("who designed C#?", "who designed c#"),
        ("C, C++/C# and F#.", "c c++ c# and f#"),
        ("is .NET like node.js", "is .net like node js"),
        ("who directed M*A*S*H?", "who directed m*a*s*h"),
        ("P!nk and Ke$ha", "p!nk and ke$ha"),
        ("AT&T or r & b", "at &t or r b"),
        ("who recorded Help!?", "who recorded help!"),
        ("1 + 1", "1 + 1"),
        ("!!!", "!!!"),
        ("I ♥ NY!", "i ♥ ny!"),
        ("ラブ☆ライブ!", "ラ ブ☆ ラ イ ブ!"),
        ("A*", "a*"),
        ("!", "!"),
        ("what ?", "what"),
        ("? …", ""),
        ("", ""),
    ],
)
def test_signs_belong_to_the_word_that_they_touch(text: str, wanted: str) -> None:
    assert words(text) == wanted.split()


def test_words_are_words_of_their_own() -> None:
    """The names of cells are words with spaces between them, and are split again."""
    every = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    assert not [one for one in every if words(" ".join(words(one))) != words(one)]


@quick
@given(some_text)
def test_words_of_any_text_are_words_of_their_own(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)
    assert [words(word) for word in words(text)] == [[word] for word in words(text)]
    assert words(unicodedata.normalize("NFD", text)) == words(text)
    assert words(text.upper().lower()) == words(text.lower())


@quick
@given(st.text(st.sampled_from("abCD 12._-'\"(),;:/?\n"), max_size=20))
def test_plain_ascii_text_is_split_as_ever(text: str) -> None:
    assert [plain(word) for word in words(text)] == letters.words(text)
