"""Writes questions for the facts of a table, from the words of its relations and names.

Bordes et al. (2015) and Chandar et al. (2016) make artificial questions for facts that have no natural ones.
Here a question takes a form of the table's language at random. It need not be good grammar: a model learns
from it which words are names, and which relation the others ask for.
"""

from __future__ import annotations

import re
from random import Random

import numpy as np
from numpy.typing import NDArray

from hmn.facts.ids import INVERSE, relation_parts
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.made_questions.language import Language
from hmn.qa.made_questions.made_up_words import MadeUpWords

BALANCE = 0.5
"""Power of a relation's number of facts that its share of the questions falls by; 1 asks for all alike."""
BARE_FORMS = ("{relation} {name}", "{name} {relation}", "{filler} {relation} {filler} {name} {filler}")
"""Forms of a question in no language."""
KEPT = 0.7
"""Probability that a word of a relation is in a question."""
KIND_KEPT = 0.2
"""Probability that a word of a relation's domain is in a question."""
ENDING_CHANGED = 0.3
"""Probability that a word of a relation has another ending."""
SAID_OTHERWISE = 0.4
"""Probability that a word of a relation is said in other words, where the language knows some."""
SMALL_WORD = 0.4
"""Probability of a small word where a form has room for one."""
MADE_UP = 0.25
"""Probability of a made-up word where a form has room for one."""
NAME_CUT = 0.1
"""Probability that a name of several words lacks one."""
ANY_ASKING = 0.15
"""Probability that a question word is drawn from all, whatever the kind of the answers."""
OBJECTS_LOOKED_AT = 20
"""Number of objects of a relation that show the kind of its answers."""
NAMES_LEARNED = 10_000
"""Number of entities whose names made-up words are like."""

_SLOT = re.compile(r"\{(\w+)\}")
"""Pattern of a slot of a form; group 1 is its name."""
_LETTERS = re.compile(r"[^\W\d_]+|\S+")
"""Pattern of a run of letters, or of anything between spaces."""
_NUMBER = re.compile(r"[-+~≈]?[\d.,' \u00a0]*\d\s*(?:%|[^\W\d]{1,4}[²³]?)?")
"""Pattern of a number, perhaps with a unit."""
_DATE = re.compile(r"(?:1[0-9]|20)\d\d(?:-\d\d?(?:-\d\d?)?)?|\d\d?[./]\d\d?[./]\d{2,4}|\d\d? \w+ \d{4}")
"""Pattern of a year or a date."""


class QuestionWriter:
    """Writes questions for the facts of a table.

    Args:
        facts: The table.
        language: Language of the questions; None asks in bare words.
        bare: Share of the questions that are asked in bare words all the same.
    """

    def __init__(self, facts: FactTable, language: Language | None, bare: float = 0.0) -> None:
        self._facts, self._language, self._bare = facts, language, bare
        self._parts = [[part.split() for part in relation_parts(relation)] for relation in facts.relations]
        by_relation = np.argsort(facts.relation, kind="stable")
        first = np.searchsorted(facts.relation, np.arange(len(facts.relations)), sorter=by_relation)
        self._asking = [self._question_words(by_relation[at : at + OBJECTS_LOOKED_AT]) for at in first]
        step = max(1, facts.num_entities // NAMES_LEARNED)
        names = (name for entity in range(0, facts.num_entities, step) for name in facts.names_of(entity))
        known = {word.lower() for name in names for word in _LETTERS.findall(name)}
        spaced = language is None or language.spaced
        self._made_up = MadeUpWords(known if spaced else ())

    def write(self, count: int, seed: int) -> QuestionSet:
        """Questions with their facts, drawn so that rare relations are asked for more often than they occur.

        Args:
            count: Number of questions.
            seed: Seed of all draws.
        """
        facts = self._facts
        held = np.bincount(facts.relation, minlength=len(facts.relations)).astype(float)
        share = held[facts.relation] ** -BALANCE
        cell = np.random.default_rng([seed, 4]).choice(len(facts), count, p=share / share.sum())
        rng = Random(seed)
        return QuestionSet.of_cells(facts, [self._question(int(fact), rng) for fact in cell], cell)

    def plain(self, count: int, seed: int) -> list[str]:
        """Questions in one form that reads well, of as many relations as there are: for people to see.

        Args:
            count: Upper limit of their number.
            seed: Seed of the order.
        """
        facts = self._facts
        order = np.random.default_rng([seed, 5]).permutation(len(facts))
        _, first = np.unique(facts.relation[order], return_index=True)  # a fact of each relation
        chosen = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(facts)), first)])
        form = BARE_FORMS[0] if self._language is None else self._language.plain
        texts = []
        for fact in order[chosen[: 2 * count]]:
            if not facts.relations[facts.relation[fact]].startswith(INVERSE):
                words = self._parts[facts.relation[fact]][-1]
                joined = ("" if self._language is not None and not self._language.spaced else " ").join(words)
                name = facts.names_of(int(facts.subject[fact]))[0]
                texts.append(form.format(relation=joined, name=name))
        return texts[:count]

    def _question(self, fact: int, rng: Random) -> str:
        """A question for one fact."""
        relation = int(self._facts.relation[fact])
        backward = self._facts.relations[relation].startswith(INVERSE)
        language = None if rng.random() < self._bare else self._language
        forms = BARE_FORMS if language is None else (backward and language.backward) or language.forms
        words = {
            "name": self._name(int(self._facts.subject[fact]), rng),
            "relation": self._relation(relation, language, rng),
            "kind": self._kind(relation, language, rng),
        }

        def filled(slot: re.Match[str]) -> str:
            return words.get(slot[1]) or self._word(slot[1], relation, language, rng)

        return " ".join(_SLOT.sub(filled, rng.choice(forms)).split()) or words["name"]

    def _word(self, slot: str, relation: int, language: Language | None, rng: Random) -> str:
        """A small word for a slot of a form, or a made-up one, or none."""
        if slot == "filler":
            small = language is not None and rng.random() < SMALL_WORD
            made_up = rng.random() < MADE_UP
            words = [rng.choice(language.filler)] if small and language is not None else []
            return " ".join(words + ([self._made_up.draw(rng)] if made_up else []))
        if language is None or slot == "kind":
            return ""
        if slot == "ask":
            usual = self._asking[relation]
            every = [*language.ask, *language.when, *language.how_many]
            return rng.choice(every if rng.random() < ANY_ASKING else usual)
        choices: list[str] = getattr(language, slot)
        return rng.choice(choices)

    def _name(self, entity: int, rng: Random) -> str:
        """A name of an entity, perhaps without one of its words."""
        name = rng.choice(self._facts.names_of(entity))
        words = name.split()
        if len(words) > 2 and rng.random() < NAME_CUT:
            del words[rng.randrange(len(words))]
            return " ".join(words)
        return name

    def _relation(self, relation: int, language: Language | None, rng: Random) -> str:
        """Some words of a relation's last part, one at least."""
        words = self._parts[relation][-1]
        kept = [word for word in words if rng.random() < KEPT] or [rng.choice(words)]
        spaced = language is None or language.spaced
        return (" " if spaced else "").join(self._varied(word, language, rng) for word in kept)

    def _kind(self, relation: int, language: Language | None, rng: Random) -> str:
        """Some words of a relation's domain, perhaps none."""
        words = [word for part in self._parts[relation][:-1] for word in dict.fromkeys(part)]
        return " ".join(self._varied(word, language, rng) for word in words if rng.random() < KIND_KEPT)

    def _varied(self, word: str, language: Language | None, rng: Random) -> str:
        """A word of a relation as people may say it: otherwise, or with another ending."""
        if language is None:
            return word
        if (said := language.said.get(word.lower())) and rng.random() < SAID_OTHERWISE:
            return rng.choice(said)
        if rng.random() >= ENDING_CHANGED:
            return word
        if not language.spaced and len(word) > 2:
            half = (len(word) + 1) // 2  # two words that are written as one
            return rng.choice([word[:half], word[-half:]])
        if len(word) < 4 or not language.endings:
            return word
        drawn = rng.random()
        if drawn < 0.4 and any(word.endswith(ending) for ending in language.endings):
            return word[:-1]
        if drawn < 0.6 and len(word) > 5:
            return word[:-2]
        return word + rng.choice(language.endings)

    def _question_words(self, looked_at: NDArray[np.int64]) -> list[str]:
        """Question words that fit the objects of the first fact's relation: dates, numbers or others."""
        if self._language is None:
            return []
        facts = self._facts
        own = looked_at[facts.relation[looked_at] == facts.relation[looked_at[:1]]]
        names = [facts.names_of(int(entity))[0] for entity in facts.object[own]]
        for pattern, words in ((_DATE, self._language.when), (_NUMBER, self._language.how_many)):
            if sum(bool(pattern.fullmatch(name)) for name in names) > len(names) / 2:
                return [*words, *words, *self._language.ask]
        return self._language.ask
