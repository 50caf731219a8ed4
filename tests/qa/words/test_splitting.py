"""A model keeps its way of splitting, whatever is the newest."""

from __future__ import annotations

import pytest

from hmn.errors import ConfigError
from hmn.facts.table import FactTable
from hmn.qa.words import splitting as module
from hmn.qa.words.splitting import AUTO, CHINESE, LETTERS, SCRIPTS, chosen_splitting, splitting


def test_ways_by_name() -> None:
    assert splitting(LETTERS).words("Zoë C++") == ["zoe", "c"]
    assert splitting(SCRIPTS).words("Zoë C++") == ["zoë", "c++"]
    assert splitting(CHINESE).words("漢字") == ["漢", "字"]
    assert splitting(CHINESE).plain("漢") == "汉" and splitting(SCRIPTS).plain("漢") == "漢"
    assert splitting(LETTERS).kinds == 5 and splitting(SCRIPTS).kinds == 6
    with pytest.raises(ConfigError, match="splitting is 'script', expected one of"):
        splitting("script")


def test_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    chinese = FactTable.from_triples([("北京市", "位于", "中国")])
    other = FactTable.from_triples([("Paris", "country", "France")])
    assert chosen_splitting(AUTO, chinese) == CHINESE
    assert chosen_splitting(AUTO, other) == SCRIPTS
    assert chosen_splitting(LETTERS, chinese) == LETTERS
    monkeypatch.setattr(module, "installed", lambda: False)
    assert chosen_splitting(AUTO, chinese) == SCRIPTS
