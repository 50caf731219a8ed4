"""Forms of a name in a question, as people write them: case endings, particles, articles and prefixes.

The rules are those of schoolbooks. Names that do not follow them come out as a hasty writer would put them.
"""

from __future__ import annotations

from collections.abc import Callable

FORMS: dict[str, Callable[[str], dict[str, str]]] = {
    "tr": lambda name: turkish(name),
    "ko": lambda name: korean(name),
    "ar": lambda name: arabic(name),
    "ru": lambda name: russian(name),
    "el": lambda name: greek(name),
}
"""Functions that give the forms of a name, for the languages in which it changes."""


def forms(name: str, language: str) -> dict[str, str]:
    """All forms of a name, for the placeholders of a phrase."""
    return {"n": name, **(FORMS[language](name) if language in FORMS else {})}


def turkish(name: str) -> dict[str, str]:
    """Genitive, locative and dative, with vowel harmony and an apostrophe."""
    last = next((letter for letter in reversed(name.lower()) if letter in "aeıioöuüâéáèíó"), "e")
    high = {"a": "ı", "ı": "ı", "â": "ı", "á": "ı", "o": "u", "u": "u", "ó": "u", "ö": "ü", "ü": "ü"}.get(
        last, "i"
    )
    low = "a" if last in "aıouâáó" else "e"
    vowel = name[-1].lower() in "aeıioöuüâéáèíó"
    hard = "t" if name[-1].lower() in "fstkçşhp" else "d"
    return {
        "gen": f"{name}'{'n' if vowel else ''}{high}n",
        "loc": f"{name}'{hard}{low}",
        "dat": f"{name}'{'y' if vowel else ''}{low}",
    }


def korean(name: str) -> dict[str, str]:
    """Topic and subject: the particle depends on whether the last syllable ends in a consonant."""
    last = ord(name[-1]) - 0xAC00
    closed = 0 <= last < 11172 and last % 28 > 0
    return {"top": name + ("은" if closed else "는"), "sub": name + ("이" if closed else "가")}


def arabic(name: str) -> dict[str, str]:
    """With the prefixes "in" and "of"; the article loses its alef after the second."""
    return {"bi": "ب" + name, "li": "لل" + name[2:] if name.startswith("ال") else "ل" + name}


def russian(name: str) -> dict[str, str]:
    """Genitive, prepositional and accusative of the last word."""
    endings = {
        "ия": ("ии", "ии", "ию"),
        "а": ("ы", "е", "у"),
        "я": ("и", "е", "ю"),
        "й": ("я", "е", "й"),
        "ь": ("я", "е", "ь"),
    }
    ending = next((ending for ending in endings if name.endswith(ending)), "")
    if ending:
        genitive, locative, accusative = endings[ending]
        if ending == "а" and name[-2:-1] in "гкхжчшщ":
            genitive = "и"
        stem = name[: -len(ending)]
        return {"gen": stem + genitive, "loc": stem + locative, "acc": stem + accusative}
    if name[-1] in "бвгджзклмнпрстфхцчшщ":
        return {"gen": name + "а", "loc": name + "е", "acc": name}
    return {"gen": name, "loc": name, "acc": name}


def greek(name: str) -> dict[str, str]:
    """Nominative, genitive and locative with their articles, by the ending of the name."""
    if name.endswith(("ος", "ός")):
        stem = name[:-2]
        return {"nom": f"ο {name}", "gen": f"του {stem}ου", "loc": f"στον {stem}ο"}
    if name.endswith(("α", "ά", "η", "ή")):
        return {"nom": f"η {name}", "gen": f"της {name}ς", "loc": f"στην {name}"}
    if name.endswith(("ο", "ό")):
        return {"nom": f"το {name}", "gen": f"του {name}υ", "loc": f"στο {name}"}
    return {"nom": f"το {name}", "gen": f"του {name}", "loc": f"στο {name}"}
