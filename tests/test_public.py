"""The public names are there, and the list that type checkers read is the one that Python reads."""

from __future__ import annotations

import ast
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import hmn


def re_exported() -> dict[str, str]:
    """Name to module, from the ``if TYPE_CHECKING`` block of the package."""
    tree = ast.parse(Path(str(hmn.__file__)).read_text(encoding="utf-8"))
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found = {}
    for node in blocks[0].body:
        assert isinstance(node, ast.ImportFrom) and len(node.names) == 1, "one name a line"
        alias = node.names[0]
        assert alias.asname == alias.name, f"{alias.name} is not re-exported: write it as itself"
        found[alias.name] = str(node.module)
    return found


def test_all_is_what_type_checkers_see() -> None:
    assert sorted(re_exported()) == hmn.__all__
    assert sorted([*hmn.__all__, "__version__"]) == sorted(dir(hmn))


@pytest.mark.parametrize("name", hmn.__all__)
def test_every_name_is_that_of_its_home(name: str) -> None:
    home = import_module(re_exported()[name])
    assert getattr(hmn, name) is getattr(home, name)
    assert getattr(hmn, name).__module__ == home.__name__


def test_import_from_works() -> None:
    from hmn import ExactIndex, FactTable, HMNError

    assert {ExactIndex.__name__, FactTable.__name__, HMNError.__name__} <= set(hmn.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'hmn' has no attribute 'Nothing'"):
        hmn.Nothing  # noqa: B018
    with pytest.raises(ImportError, match="Nothing"):
        from hmn import Nothing  # noqa: F401


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert hmn.__version__ == project["project"]["version"]
