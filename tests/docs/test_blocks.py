"""Every code block of the documentation runs, on smaller data, and prints what the page shows."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.curl import run_curl
from tests.docs.pages import PAGES, ROOT, Block, blocks_of, commands
from tests.facts.files.sheets import xlsx
from typer.testing import CliRunner

from hmn.cli.app import app
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.config import read_config
from hmn.qa.factoid_qa import FactoidQA

Rows = list[tuple[str, str, str, str]]

BOOKS = [["subject", "relation", "object"], ["dune", "published in", 1965], ["emma", "published in", 1815]]
"""Facts of the spreadsheet that docs/data.md reads."""
TINY_MODEL = {
    "table_bits": 11,
    "name_features": 32,
    "relation_features": 16,
    "word_bits": 10,
    "word_features": 8,
    "hidden": 8,
}
TINY_TRAINING = {"epochs": 1, "batch_size": 32, "renew_steps": 10, "learning_rate": 0.02, "warmup": 5}

SMALLER: dict[str, dict[str, str]] = {
    "README.md": {"1_000_000": "4_000", "num_clusters=1000": "num_clusters=60"},
    "docs/attention.md": {
        "CELLS, INDEX = 1_000_000": "CELLS, INDEX = 4_000",
        "ASKED, BATCH, STEPS = 64, 10, 2_000, 256, 100": "ASKED, BATCH, STEPS = 64, 10, 500, 128, 50",
        "num_clusters=1000": "num_clusters=60",
    },
    "docs/search.md": {
        "CELLS = 1_000_000": "CELLS = 20_000",
        "num_clusters=1_000)": "num_clusters=100)",
        "keys[:50_000]": "keys[:5_000]",
    },
    "docs/data.md": {
        "FactoidQA(facts)": f"FactoidQA(facts, **{TINY_MODEL})",
        'valid="valid.tsv")': f'valid="valid.tsv", quiet=True, **{TINY_TRAINING})',
    },
}
"""Texts of a page's Python blocks that stand for sizes, and what the tests put in their place."""

_ANSWER = re.compile(r"(> |  )\S.*  \d+\.\d%   .+ \(.+\) · .+")
_NUMBER = re.compile(r"\d[\d,.]*")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, small_facts: FactTable, small_rows: Rows) -> Path:
    """A trained model, its folder named ``model``, for the pages that begin with one."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    model = FactoidQA(small_facts, **TINY_MODEL)
    train = QuestionSet.from_rows(small_facts, small_rows[:800])
    model.fit(train, quiet=True, **TINY_TRAINING).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(small_files: Path, small_rows: Rows, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: what ``make demo`` leaves, and a user's own files."""
    names = sorted({row[0] for row in small_rows})
    text = "".join(f"{name}\t{name.replace('_', ' ').title()}\n" for name in names)
    (small_files / "names.tsv").write_text(text, encoding="utf-8")
    (small_files / "questions.txt").write_text("who wrote dune?\n", encoding="utf-8")
    sheets = {"Facts": BOOKS, "Names": [["entity", "name"], ["dune", "Dune"]]}
    (small_files / "books.xlsx").write_bytes(xlsx(sheets))
    shutil.copytree(tiny_model, small_files / "demo" / "model")
    shutil.copy(small_files / "valid.tsv", small_files / "demo" / "test.tsv")
    monkeypatch.chdir(small_files)
    return small_files


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning with PyTorch 2.13
def test_every_block_of_the_page(
    page: str, folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if page == "docs/training.md":
        for package in ("accelerate", "lightning", "transformers"):
            pytest.importorskip(package)
    if page == "docs/data.md":
        for package, extra in (("python_calamine", "excel"), ("pyoxigraph", "rdf")):
            pytest.importorskip(package, reason=f"the extra {extra!r} is not installed")
    if page == "docs/serving.md":
        shutil.copytree(tiny_model, folder / "model")
    sizes = SMALLER.get(page, {})
    code = "".join(block.text for block in blocks_of(page) if block.language == "python")
    for text in sizes:
        assert text in code, f"{page} has changed: change the sizes of this test with it ({text!r})"
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for block in blocks_of(page):
        if block.language == "text":
            if printed:
                assert shapes(printed) == shapes(block.text), f"{block.place}: prints something else"
            printed = ""
            continue
        printed = ""
        if block.not_run:
            continue
        if block.language == "python":
            run_python(block, names, sizes)
            printed = capsys.readouterr().out
        else:
            assert block.language in RUN, (
                f"{block.place}: a block of {block.language!r} cannot be run: mark it with "
                "<!-- not run: why --> on the line above it"
            )
            RUN[block.language](block)
    CHECKED.get(page, lambda _: None)(names)


def run_python(block: Block, names: dict[str, Any], sizes: dict[str, str]) -> None:
    """Run a block in the namespace of its page, with smaller sizes."""
    source = block.text
    for whole, small in sizes.items():
        source = source.replace(whole, small)
    exec(compile("\n" * (block.line - 1) + source, block.page, "exec"), names)


def run_commands(block: Block) -> None:
    """Run a block's commands in this process, and compare the output with what is shown."""
    for command, shown in commands(block):
        assert command.startswith("hmn "), (
            f"{block.place}: {command!r} cannot be run: mark the block with <!-- not run: why --> above it"
        )
        line, _, source = command.partition(" < ")
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":
            arguments += [] if "--made-questions" in arguments else ["--made-questions", "200"]
            arguments += [
                part
                for name, value in (TINY_MODEL | TINY_TRAINING).items()
                for part in (f"--{name.replace('_', '-')}", str(value))
            ]
        given = Path(source).read_text(encoding="utf-8") if source else None
        done = CliRunner().invoke(app, arguments, input=given)
        # a tiny model may say of any question that its answer is not in the table
        allowed = {0, 1} if arguments[0] == "ask" else {0}
        assert done.exit_code in allowed, f"{block.place}: {command}: {done.output}{done.exception}"
        if shown:
            compare(f"{block.place}: {command}", shown, done.stdout)


def compare(place: str, shown: str, printed: str) -> None:
    """Compare output with that of another model: the same figures, or answers of the same form."""
    shown_lines, lines = shown.split("\n\n")[0].splitlines(), printed.strip("\n").splitlines()
    verdicts = ("not in the table (", "perhaps in the table, ")
    lines = [line for line in lines if not line.startswith(verdicts)]
    if shown_lines[0].startswith(">"):
        bad = [line for line in [*shown_lines, *lines] if not _ANSWER.fullmatch(line)]
        assert not bad, f"{place}: {bad[0]!r} is no answer"
        assert len(lines) == len(shown_lines), f"{place}: prints {len(lines)} lines"
    else:
        figures = [line.split()[0] for line in lines]
        assert figures == [line.split()[0] for line in shown_lines], f"{place}: prints other figures"


def shapes(text: str) -> set[str]:
    """The distinct lines of an output, its numbers and strings left out."""
    lines = (re.sub(r"'[^']*'", "'…'", line) for line in text.strip().splitlines())
    return {_NUMBER.sub("#", line) for line in lines}


def write_file(block: Block) -> None:
    """Write the file that a block shows, and read it as what it is."""
    assert block.title, f'{block.place}: expected title="…" behind the fence: the name of the file'
    path = Path(block.title)
    path.write_text(block.text, encoding="utf-8")
    if path.suffix == ".toml":
        assert read_config(path) == tomllib.loads(block.text)
        return
    header = next(csv.reader(block.text.splitlines()))
    if header == ["subject", "relation", "object"]:
        FactTable.read(path)
    elif header == ["product", "property", "value"]:
        FactTable.read(path, columns=header)
    elif header == ["entity", "name"]:
        FactTable.read("facts.csv", path)
    elif "question" not in header:
        assert "read as a wide table" in FactTable.read(path).notes[0]
    else:
        facts = FactTable.read("facts.csv", "names.csv")
        assert len(QuestionSet.read(path, facts)) == len(block.text.splitlines()) - 1


def write_metaqa(block: Block) -> None:
    """Write a file of facts with ``|`` between columns, or of questions with topics about these facts."""
    assert block.title, f'{block.place}: expected title="…" behind the fence: the name of the file'
    Path(block.title).write_text(block.text, encoding="utf-8")
    lines = len(block.text.splitlines())
    if block.language == "psv":
        assert len(FactTable.read(block.title)) == lines
    else:
        questions = QuestionSet.read(block.title, FactTable.read("kb.txt", inverse=True))
        assert (len(questions), questions.unknown.total) == (lines, 0)
        assert (questions.topic >= 0).all()


def write_graph(block: Block) -> None:
    """Write an RDF file and read it."""
    Path(block.title).write_text(block.text, encoding="utf-8")
    assert len(FactTable.read(block.title))


RUN: dict[str, Callable[[Block], None]] = {
    "turtle": write_graph,
    "bash": run_curl,
    "sh": run_commands,
    "console": run_commands,
    "csv": write_file,
    "psv": write_metaqa,
    "tsv": write_metaqa,
    "toml": write_file,
}


def check_attention(names: dict[str, Any]) -> None:
    assert names["right_cell"] > 0.9 and names["right_class"] > 0.8
    drawn = names["candidates"]
    assert set(names["asked"][:8].tolist()) <= set(drawn.cell.tolist())
    assert 0 < names["drawn_by_chance"] < len(drawn.cell)


def check_search(names: dict[str, Any]) -> None:
    assert names["tuned"].reached and names["missed"] < 0.1


CHECKED: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/attention.md": check_attention,
    "docs/search.md": check_search,
}


def commands_of_all_pages() -> Iterator[str]:
    for page in PAGES:
        for block in blocks_of(page):
            if block.language in {"sh", "console"}:
                yield from (command for command, _ in commands(block))


def test_make_targets_and_extras_that_pages_name_exist() -> None:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([\w-]+)", text)) | {
        command.split()[1] for command in commands_of_all_pages() if command.startswith("make ")
    }
    assert {"demo", "test", "docs", "bench-qa"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no make target {target}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(",".join(re.findall(r'pip install "\.\[([\w,]+)\]"', text)).split(","))
    assert {"faiss", "paper"} <= extras <= set(project["optional-dependencies"])


def test_a_block_that_cannot_be_run_must_say_why() -> None:
    page = "<!-- not run: takes hours -->\n```sh\nmake paper\n```\n\n```sh\nmake paper\n```\n"
    marked, unmarked = blocks_of("page.md", page)
    assert (marked.not_run, unmarked.not_run) == ("takes hours", "")
    with pytest.raises(AssertionError, match=r"page.md:7: 'make paper' cannot be run"):
        run_commands(unmarked)
