"""Named errors. Each message says what was wrong, what was got, what was expected and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_VALUE = 100
"""Upper limit of the characters of a quoted value that a message repeats."""
LONGEST_MESSAGE = 1_000
"""Upper limit of the characters of a message."""
_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)")
"""Pattern of a quoted value; an apostrophe within a word does not begin one."""


class HMNError(Exception):
    """Base of every error that a user's input can cause. Its message repeats no long value in full."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_short(part) if isinstance(part, str) else part for part in arguments))


class ShapeError(HMNError, ValueError):
    """A tensor has the wrong shape or type."""


class NonFiniteError(HMNError, ValueError):
    """A tensor holds NaN or infinity; the message names the first bad row."""


class ConfigError(HMNError, ValueError):
    """A setting is unknown, has the wrong type, or is out of range."""


class CellError(HMNError, KeyError):
    """A cell id is unknown, exists already, or is given twice."""

    def __str__(self) -> str:
        """The message without the quotes that ``KeyError`` adds."""
        return str(self.args[0]) if self.args else ""


class DataError(HMNError, ValueError):
    """A file of facts, names or questions is bad; if possible, the message begins with ``file:line:``."""


class BundleError(HMNError):
    """A saved folder is incomplete, damaged, or in a newer format; the message names the file."""


class JournalError(BundleError):
    """A journal of writes is damaged, belongs to another bundle, is closed, or cannot be written."""


class InUseError(BundleError):
    """Another process serves or changes a saved model; the message has its process id."""


class KeyReuseError(HMNError, ValueError):
    """An idempotency key came again, with another write than the first one."""


class ReadOnlyError(HMNError):
    """Facts cannot be changed here."""


class NotFittedError(HMNError, RuntimeError):
    """A model was asked before it was trained."""


class RankError(HMNError, RuntimeError):
    """Another rank of a distributed run has failed or does not answer; the message says which."""


class MissingPackageError(HMNError, ImportError):
    """An optional package is missing; the message gives the exact ``pip install`` line."""


def check_flag(name: str, value: object) -> bool:
    """A switch.

    Raises:
        ConfigError: it is neither True nor False, such as a text.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}, expected True or False")
    return value


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is most like a name, as after a slip of the finger; None if none is."""
    from difflib import get_close_matches  # takes a while to load, and only mistakes need it

    return next(iter(get_close_matches(str(name)[:LONGEST_VALUE], list(known), n=1, cutoff=0.65)), None)


def expected_one_of(name: object, known: Iterable[str]) -> str:
    """What to write instead of an unknown name, for a message."""
    names = list(known)
    near = closest(name, names)
    return f"expected one of {', '.join(names)}" + (f": did you mean {near}?" if near else "")


def _short(message: str) -> str:
    """The message with long quoted values cut, and its middle left out if it is long all the same."""
    message = _QUOTED.sub(_cut, message)
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2 - 1
    return f"{message[:half]}…{message[-half:]}"


def _cut(quoted: re.Match[str]) -> str:
    value = quoted[0]
    return value if len(value) <= LONGEST_VALUE + 2 else f"{value[:LONGEST_VALUE]}…'"
