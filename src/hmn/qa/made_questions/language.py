"""The language that a table's questions are made in: its small words and forms, and which language it is."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from hmn.errors import ConfigError, closest
from hmn.facts.ids import relation_parts
from hmn.facts.table import FactTable

FALLBACK = "en"
"""Language that is assumed beside bare words where nothing shows which one it is."""
NAMES_LOOKED_AT = 2000
"""Number of entities whose names are evidence for the language."""
RELATION_WEIGHT = 20
"""Weight of a word in a relation, against 1 for a word in a name, at least: names never outweigh them all."""
LETTER_WEIGHT = 0.5
"""Weight of a letter that few other languages have, against 1 for a word of the language."""
LEAST_EVIDENCE = 0.02
"""Evidence per word that a language needs at least. Below it nothing is known about the language."""

NO_LANGUAGE = "none"
"""Code that stands for bare words of relation and name."""

_WORD = re.compile(r"[^\W\d_]+")
"""Pattern of a run of letters, for scripts whose letters have no signs beside them."""
_SAME_SCRIPT = {"KATAKANA": "HIRAGANA"}
"""Scripts that are counted as another one."""
_UNSPACED = frozenset({"THAI", "HIRAGANA", "CJK"})
"""Scripts that put no space between words."""


@dataclass(frozen=True)
class Language:
    """What is known about the questions of a language; ``languages.toml`` explains the fields."""

    code: str
    script: str
    letters: str
    typical: list[str]
    ask: list[str]
    when: list[str]
    how_many: list[str]
    be: list[str]
    the: list[str]
    of: list[str]
    filler: list[str]
    endings: list[str]
    plain: str
    forms: list[str]
    backward: list[str]
    said: dict[str, list[str]]

    @property
    def spaced(self) -> bool:
        """Whether spaces separate the words."""
        return self.script not in _UNSPACED


@cache
def languages() -> dict[str, Language]:
    """The languages that questions can be made in, by code."""
    text = files("hmn.qa.made_questions").joinpath("languages.toml").read_text(encoding="utf-8")
    rest: dict[str, object] = {"backward": [], "said": {}}
    return {code: Language(code=code, **(rest | given)) for code, given in tomllib.loads(text).items()}


def language_called(code: str) -> Language:
    """A language by its code.

    Raises:
        ConfigError: There is no such language.
    """
    known = languages()
    if code not in known:
        hint = closest(code, sorted(known))
        expected = f"did you mean {hint}?" if hint else f"expected one of {', '.join(sorted(known))}"
        raise ConfigError(
            f"question_language is {code!r:.80}: {expected}; '{NO_LANGUAGE}' makes questions of bare words"
        )
    return known[code]


def language_of(facts: FactTable) -> Language | None:
    """The language of a table, by its script and then by the words of its relations and names.

    None if nothing shows it, or if questions cannot be made in it.
    """
    relations = [" ".join(relation_parts(relation)) for relation in facts.relations]
    step = max(1, facts.num_entities // NAMES_LOOKED_AT)
    names = [facts.names_of(entity)[0] for entity in range(0, facts.num_entities, step)]
    script = _script(relations, names)
    candidates = [language for language in languages().values() if language.script == script]
    if len(candidates) < 2:
        return next(iter(candidates), None)
    in_relations, in_names = _words(relations), _words(names)
    weight = max(RELATION_WEIGHT, in_names.total() // max(1, in_relations.total()))
    words = in_names + Counter({word: weight * count for word, count in in_relations.items()})
    evidence = _evidence(candidates, words)
    best = max(candidates, key=lambda language: evidence[language.code])
    return best if evidence[best.code] >= LEAST_EVIDENCE * words.total() else None


def _script(relations: list[str], names: list[str]) -> str:
    """The script of the questions: that of the relations, or of the names if only relations are in Latin."""
    of_relations, of_names = _scripts(relations), _scripts(names)
    first, other = (
        max(scripts, key=scripts.__getitem__, default="LATIN") for scripts in (of_relations, of_names)
    )
    if first == "LATIN" and of_names[other] > of_names.total() / 2:
        first = other
    # a Japanese table is known by its kana, however many of its signs are Chinese
    letters = of_relations + of_names
    return "HIRAGANA" if first == "CJK" and letters["HIRAGANA"] > letters.total() / 20 else first


def _scripts(texts: Iterable[str]) -> Counter[str]:
    """Number of letters of each script."""
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        script = unicodedata.name(letter, "?").split()[0].split("-")[0]
        scripts[_SAME_SCRIPT.get(script, script)] += count
    return scripts


def _words(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each word is."""
    return Counter(word for text in texts for word in set(_WORD.findall(_plain(text))))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _evidence(candidates: list[Language], words: Counter[str]) -> dict[str, float]:
    """How often the words and the rarer letters of each language occur; languages share a common word."""
    own = {language.code: _own_words(language) for language in candidates}
    shared = Counter(word for known in own.values() for word in known)
    evidence = dict.fromkeys(own, 0.0)
    for language in candidates:
        letters = set(_plain(language.letters))
        for word, count in words.items():
            known = 1 / shared[word] if word in own[language.code] else 0.0
            evidence[language.code] += count * (known + LETTER_WEIGHT * bool(letters & set(word)))
    return evidence


def _own_words(language: Language) -> set[str]:
    small = [language.ask, language.be, language.the, language.of, language.typical]
    own = {word for texts in small for text in texts for word in _WORD.findall(_plain(text))}
    return own | {_plain(word) for word in language.said}
