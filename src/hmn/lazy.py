"""Public names of a package, imported at their first use: so importing the package is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: dotted name of the package.
        homes: names by the module that defines them.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        vars(import_module(package))[name] = value
        return value

    def names() -> list[str]:
        return sorted({*home, *(name for name in vars(import_module(package)) if name.startswith("__"))})

    return get, names, sorted(home)
