"""Imports go down the list of rooms only, the light modules stay light, and nothing runs what it reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "hmn"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = [
    {"errors", "lazy", "results"},
    {"_native", "facts"},
    {"index"},
    {"nn", "store", "machine"},
    {"distributed"},
    {"qa"},
    {"paper", "serve"},
    {"cli"},
    {"__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
LIGHT = ["hmn.qa.config", "hmn.facts.ids", "hmn.qa.text", "hmn.cli.app"]
BARRED_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_imported(name: str) -> str | None:
    """The room that an import reaches into, ``__init__`` for the package itself; None outside it."""
    package, *rest = name.split(".")
    if package != "hmn":
        return None
    return rest[0] if rest and rest[0] in LEVEL else "__init__"


def barred(tree: ast.AST) -> Iterator[str]:
    """Uses of what would run a file's content as code."""
    for name in imported(tree):
        if name.split(".")[0] in BARRED_MODULES or name in {"torch.load", "builtins.eval", "builtins.exec"}:
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in {"eval", "exec"}:
            yield node.id
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {
            "torch.load",
            "torch.serialization.load",
        }:
            yield ast.unparse(node)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield "allow_pickle"


def test_the_package_was_found() -> None:
    assert {"errors", "index", "nn", "qa", "store", "cli"} <= {room_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_only(path: Path) -> None:
    own = room_of(path)
    assert own in LEVEL, f"{own} is a new room: give it a level in this test"
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        room = room_imported(name)
        if room is not None and room != own:
            assert LEVEL[room] < LEVEL[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_runs_what_it_reads(path: Path) -> None:
    assert not list(barred(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "exec(x)",
        "torch.load(x)",
        "from torch import load",
        "np.load(x, allow_pickle=True)",
    ],
)
def test_each_way_to_run_a_file_is_noticed(source: str) -> None:
    assert list(barred(ast.parse(source)))


@pytest.mark.parametrize("source", ["network.eval()", "import json", "retrieval(x)", "torch.loads"])
def test_harmless_code_is_not(source: str) -> None:
    assert not list(barred(ast.parse(source)))


def test_light_modules_and_the_command_line_load_no_torch() -> None:
    check = (
        f"import sys, hmn, {', '.join(LIGHT)}; print([m for m in ('torch', 'pyarrow') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
