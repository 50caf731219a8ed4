"""Checks of settings."""

from __future__ import annotations

from collections.abc import Sequence

from hmn.errors import ConfigError


def check_count(name: str, value: object, least: int = 1) -> int:
    """A setting that counts something.

    Raises:
        ConfigError: it is no whole number or less than ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value


def check_counts(name: str, value: int | Sequence[int] | str) -> tuple[int, ...]:
    """One count a level, from a number, several, or ``"64x4096"``.

    Raises:
        ConfigError: it is none of these, or a count is less than 1.
    """
    try:
        parts = value.split("x") if isinstance(value, str) else [value] if isinstance(value, int) else value
        counts = tuple(int(part) for part in parts)
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise ConfigError(
            f"{name} is {value!r}, expected a count of at least 1, or one for each level as in 64x4096"
        )
    return counts
