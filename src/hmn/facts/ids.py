"""Ids of entities and relations: one spelling for each of Freebase's, and ids put into words."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

INVERSE = "~"
"""Prefix of an inverse relation's id."""

_PREFIX = re.compile(r"<?(?:(?:https?://)?(?:www\.|rdf\.)?freebase\.com/(?:ns/)?|fb:)([^\s<>]+)>?")
"""Pattern of a Freebase id with its prefix; group 1 is the id without it."""
_SHORT = re.compile(r"/[mg]/\w+|m/0\w+|/\w+(?:/\w+){2,}")
"""Pattern of a Freebase id without a prefix."""
_WIKIDATA = re.compile(
    r"<?(?:https?://(?:www\.)?wikidata\.org/(?:entity|wiki|prop(?:/direct)?)/(?:Property:)?|wdt?:)([QPL]\d+)>?"
)
"""Pattern of a Wikidata id with its prefix; group 1 is the id without it."""
_BACKWARDS = re.compile(r"R(\d+)")
"""Pattern of a Wikidata property that is read backwards, as in SimpleQuestions for Wikidata."""
_LABELLED = re.compile(r"(~?)(.+) <([^<>\s]+)>")
"""Pattern of a relation with its label; groups are the mark of an inverse, the label and the id."""
_BRACKETS = re.compile(r"<([^<>\s]+)>")
"""Pattern of an address in brackets; group 1 is the address."""
_COMMON_PREFIX = "www.freebase.com/"
"""Prefix used by SimpleQuestions, which needs no regular expression: ids are spelled by the million."""
_MACHINE = ("m/", "m.", "g/", "g.")
"""First characters of Freebase ids that hold no words."""
_MACHINE_ID = re.compile(r"[mg][./]\w+")
"""Pattern of a whole id that holds no words."""
_CAMEL = re.compile(r"(?<=[a-z])[A-Z]+")
"""Pattern of capitals within a word, as in placeOfBirth."""
_WIDTHS = re.compile("[\u3000\uff00-\uff5d\uff5f-\uffef]+")
"""Pattern of characters of full or half width, but not of the full-width tilde: a tilde marks an inverse."""


def is_text(value: object) -> bool:
    """Whether a value is a text that is not blank and that a file can hold, which a lone surrogate cannot."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_form(text: str) -> str:
    """A text in one of the forms that Unicode has for what reads the same; case and signs stay as they are.

    Accents are composed with their letters, letters of full or half width are the usual ones, and any spaces
    between words are a single plain one. In ASCII there is one form: only the space around it goes.
    """
    if text.isascii():
        return text.strip()
    usual = _WIDTHS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return " ".join(unicodedata.normalize("NFC", usual).split())


def canonical_id(text: str) -> str:
    """Spell a Freebase id in the one way that tables use; other ids are only brought to ``one_form``.

    ``www.freebase.com/m/0abc``, ``fb:m.0abc``, ``<fb:m.0abc>``, ``/m/0abc`` and ``m.0abc`` are all
    ``m.0abc``. ``www.freebase.com/people/person/gender``, ``fb:people.person.gender``,
    ``/people/person/gender`` and ``people/person/gender`` are all ``people/person/gender``. Likewise,
    ``http://www.wikidata.org/entity/Q42`` and ``wd:Q42`` are ``Q42``.
    """
    text = one_form(text)
    if text.startswith(_COMMON_PREFIX):
        return _without_prefix(text[len(_COMMON_PREFIX) :]) or text
    if text.startswith(INVERSE):
        inner = text[len(INVERSE) :]
        return INVERSE + canonical_id(inner) if inner else text
    if "wikidata.org/" in text or text.startswith(("wd:", "wdt:")):
        match = _WIKIDATA.fullmatch(text)
        return match[1] if match else text
    if match := _PREFIX.fullmatch(text):
        return _without_prefix(match[1]) or text
    return _without_prefix(text) if _SHORT.fullmatch(text) else text


def _without_prefix(text: str) -> str:
    text = text.strip("/")
    return f"{text[0]}.{text[2:]}" if text.startswith(_MACHINE) else text.replace(".", "/")


def several_entities(text: str) -> list[str]:
    """Split Freebase ids separated by spaces, as in FB2M; any other text is returned whole, in a list."""
    parts = text.split()
    if len(parts) > 1 and all(_PREFIX.fullmatch(part) or _SHORT.fullmatch(part) for part in parts):
        return parts
    return [text]


def readable_id(entity: str) -> str:
    """Put an id into words: ``New_York`` and ``<http://dbpedia.org/resource/New_York>`` are ``New York``.

    An id without words, such as Freebase's ``m.0abc``, is returned unchanged.
    """
    if _MACHINE_ID.fullmatch(entity):
        return entity
    text = _bare(entity)
    if text.startswith(("http://", "https://")):
        text = unquote(re.split(r"[/#]", text.rstrip("/#"))[-1])
    return " ".join(text.replace("_", " ").split()) or entity


def labelled(relation: str, label: str) -> str:
    """Put a label into the id of a relation: ``place of birth <P19>``, and ``~place of birth <P19>``."""
    mark = INVERSE if relation.startswith(INVERSE) else ""
    return f"{mark}{label} <{_bare(relation.removeprefix(INVERSE))}>"


def without_label(relation: str) -> str:
    """The id of a relation without its label: ``P19`` for ``place of birth <P19>``."""
    match = _LABELLED.fullmatch(relation) if relation.endswith(">") else None
    return f"{match[1]}{match[3]}" if match else relation


def backwards(relation: str) -> str | None:
    """The inverse that Wikidata's ``R19`` stands for, ``~P19``; None for other relations."""
    match = _BACKWARDS.fullmatch(relation)
    return f"{INVERSE}P{match[1]}" if match else None


def relation_parts(relation: str) -> list[str]:
    """Split a relation into its parts in words: ``["people", "person", "place of birth"]``, domain first.

    ``people/person/place_of_birth``, ``people.person.place_of_birth`` and ``~people/person/place_of_birth``
    give the same. ``placeOfBirth`` gives ``["place of birth"]``; a web address gives its last segment, and a
    relation with a label the label.
    """
    text = relation.removeprefix(INVERSE)
    match = _LABELLED.fullmatch(text) if text.endswith(">") else None
    if match:
        text = match[2]
    if re.match(r"<?https?://", text):
        text = readable_id(text)
    parts = map(_part_in_words, re.split(r"[/.:#]", text))
    return [part for part in parts if part] or [relation]


@lru_cache(maxsize=1 << 12)
def relation_text(relation: str) -> str:
    """Put a relation into words: ``people person place of birth``; an inverse begins with ``inverse of``."""
    words = " ".join(relation_parts(relation))
    return f"inverse of {words}" if relation.startswith(INVERSE) else words


def inverse_of(relation: str) -> str:
    """Give the id of the inverse of a relation; the inverse of an inverse is the relation itself."""
    return relation.removeprefix(INVERSE) if relation.startswith(INVERSE) else INVERSE + relation


@lru_cache(maxsize=1 << 12)
def _part_in_words(part: str) -> str:
    """A part of a relation in words; many relations share a domain and a type."""
    return " ".join(_camel_words(part).replace("_", " ").split())


def _bare(text: str) -> str:
    """An address without the brackets around it; markup such as ``<b>bold</b>`` is none, and stays."""
    match = _BRACKETS.fullmatch(text)
    return match[1] if match else text


def _camel_words(text: str) -> str:
    return _CAMEL.sub(lambda match: " " + (match[0].lower() if len(match[0]) == 1 else match[0]), text)
