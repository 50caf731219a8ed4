"""Named errors. Each message says what was wrong, what was got, what was expected and what to do next."""

from __future__ import annotations


class HMNError(Exception):
    """Base of every error that a user's input can cause."""


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


class NotFittedError(HMNError, RuntimeError):
    """A model was asked before it was trained."""


class MissingPackageError(HMNError, ImportError):
    """An optional package is missing; the message gives the exact ``pip install`` line."""
