"""The public names are there, and the list that type checkers read is the one that Python reads."""

from __future__ import annotations

import ast
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import hmn

PACKAGES = ("hmn", "hmn.distributed", "hmn.index", "hmn.nn", "hmn.serve")


def re_exported(package: str) -> dict[str, str]:
    """Name to module, from the ``if TYPE_CHECKING`` block of a package."""
    tree = ast.parse(Path(str(import_module(package).__file__)).read_text(encoding="utf-8"))
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    homes = {}
    for node in blocks[0].body:
        assert isinstance(node, ast.ImportFrom) and len(node.names) == 1, "one name per line"
        alias = node.names[0]
        assert alias.asname == alias.name, f"{alias.name} is not re-exported: write it as itself"
        homes[alias.name] = str(node.module)
    return homes


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_what_type_checkers_see(package: str) -> None:
    public = import_module(package)
    assert sorted(re_exported(package)) == public.__all__
    assert set(public.__all__) <= set(dir(public))
    for name, module in re_exported(package).items():
        assert package == "hmn" or module.startswith(f"{package}."), f"{name} lives in another room"


@pytest.mark.parametrize(
    ("package", "name"), [(one, name) for one in PACKAGES for name in import_module(one).__all__]
)
def test_every_name_is_that_of_its_home(package: str, name: str) -> None:
    home = import_module(re_exported(package)[name])
    assert getattr(import_module(package), name) is getattr(home, name)
    assert getattr(home, name).__module__ == home.__name__


def test_rooms_and_the_package_have_the_same_names() -> None:
    for package in ("hmn.index", "hmn.nn"):
        assert set(import_module(package).__all__) <= set(hmn.__all__)


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
