"""Checks of settings."""

from __future__ import annotations

from hmn.errors import ConfigError


def check_count(name: str, value: object, least: int = 1) -> int:
    """A setting that counts something.

    Raises:
        ConfigError: it is no whole number or less than ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value
