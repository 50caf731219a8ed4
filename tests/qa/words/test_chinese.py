"""Traditional and simplified Chinese meet."""

from __future__ import annotations

import sys

import pytest

from hmn.errors import MissingPackageError
from hmn.qa.words.chinese import is_chinese, simplified


def test_characters_are_converted_one_by_one() -> None:
    convert = simplified()
    assert convert("漢字與書法") == "汉字与书法" and convert("汉字与书法") == "汉字与书法"
    assert convert("zoë C++ 漢") == "zoë C++ 汉"
    assert "".join(map(convert, "乾隆皇帝")) == convert("乾隆皇帝")


def test_without_opencc_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    simplified.cache_clear()
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(MissingPackageError, match=r"hmn\[chinese\]"):
        simplified()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["北京市", "天津市"], True),
        (["東京", "さいたま", "大阪"], False),
        (["Paris", "北京"], False),
        (["Paris"], False),
        ([], False),
    ],
)
def test_which_tables_are_chinese(names: list[str], wanted: bool) -> None:
    assert is_chinese(names) is wanted
