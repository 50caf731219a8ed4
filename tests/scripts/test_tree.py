"""The tree in CONTRIBUTING.md lists the files that exist, each with what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.tree import PACKAGE, first_sentence, main, tree, written

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_page_has_the_tree_of_today() -> None:
    assert main([str(PAGE), "--check"]) == 0, "run python -m scripts.tree CONTRIBUTING.md"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_every_file_says_what_it_holds(file: Path) -> None:
    assert 10 <= len(first_sentence(file)) <= 110


def test_a_tree_lists_files_before_folders(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    (package / "till").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A shop. Open daily."""')
    (package / "door.py").write_text('"""The ``door``\nof it, e.g. open.\n\nMore."""')
    (package / "till" / "__init__.py").write_text('"""The till."""')
    (package / "till" / "coin.py").write_text("")
    (package / "empty").mkdir()
    assert tree(package).splitlines() == [
        "```",
        "shop/        A shop",
        "  door.py    The door of it, e.g. open",
        "  till/      The till",
        "    coin.py  ",
        "```",
    ]


def test_the_rest_of_the_page_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tree -->\nold\n<!-- end of tree -->\nafter\n")
    assert main([str(page), "--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert "\nold\n" in page.read_text()
    assert main([str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- tree -->\n```\nhmn/") and text.endswith(
        "\n<!-- end of tree -->\nafter\n"
    )
    assert main([str(page), "--check"]) == 0
    with pytest.raises(ValueError, match="expected the marks"):
        written("no marks", "block")
