"""Named errors. Each message says what was wrong, what was got, what was expected and what to do next."""

from __future__ import annotations


class HMNError(Exception):
    """Base of every error that a user's input can cause."""


class ShapeError(HMNError, ValueError):
    """A tensor has another shape or type than its place needs."""


class NonFiniteError(HMNError, ValueError):
    """A tensor holds NaN or infinity; the message names the first bad row."""


class ConfigError(HMNError, ValueError):
    """A setting is unknown, of the wrong type, or out of its range."""


class CellError(HMNError, KeyError):
    """A cell id is unknown, there already, or given twice."""

    def __str__(self) -> str:
        """The message as it is; a ``KeyError`` would show it quoted."""
        return str(self.args[0]) if self.args else ""


class DataError(HMNError, ValueError):
    """A file of facts, names or questions is bad; the message begins with ``file:line:`` where it can."""


class BundleError(HMNError):
    """A saved folder is incomplete, damaged, or of a newer format; the message names the file."""


class NotFittedError(HMNError, RuntimeError):
    """A model was asked before it was trained."""


class MissingPackageError(HMNError, ImportError):
    """An optional package is missing; the message prints the exact ``pip install`` line."""
