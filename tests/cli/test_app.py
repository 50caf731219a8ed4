from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import pytest
from tests.fuzz.bundles import make_bundle
from typer.testing import CliRunner

from hmn.cli.app import app
from hmn.errors import DataError
from hmn.facts.table import FactTable
from hmn.qa.config import DataConfig, ModelConfig, TrainConfig

RUNNER = CliRunner()

TOML = """
facts = "facts.tsv"
questions = "train.tsv"
valid = "valid.tsv"
table-bits = 11
name_features = 32
relation_features = 16
word_bits = 10
word_features = 8
hidden = 8
epochs = 2
batch_size = 32
renew_steps = 10
learning_rate = 0.02
warmup = 5
"""
KEYS = [
    "questions",
    "fact_accuracy",
    "pair_accuracy",
    "answer_accuracy",
    "mrr",
    "recall_at_k",
    "k",
    "reads",
    "cells_scored",
    "queries_per_second",
    "hop_reads",
    "known_share",
]


def hmn(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hmn.cli", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def trained(small_files: Path) -> Path:
    (small_files / "config.toml").write_text(TOML, encoding="utf-8")
    done = hmn(small_files, "train", "--config", "config.toml", "--out", "model", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    return small_files


@pytest.mark.slow
def test_train_evaluate_ask(trained: Path) -> None:
    done = hmn(trained, "evaluate", "model", "--questions", "valid.tsv", "--json", "-k", "4")
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert figures["k"] == 4
    assert figures["pair_accuracy"] > 0.9
    assert figures["reads"] == figures["cells_scored"] > 300
    assert "pair_accuracy" in hmn(trained, "evaluate", "model", "--questions", "valid.tsv").stdout

    subject, relation, answer, question = (trained / "valid.tsv").read_text().splitlines()[0].split("\t")
    shown = hmn(trained, "ask", "model", question, "-k", "2").stdout.splitlines()
    assert shown[0].startswith(f"> {answer}  ")
    assert subject in shown[0]
    assert shown[1].startswith("  ")
    found = json.loads(hmn(trained, "ask", "model", question, "--json").stdout)
    assert found["question"] == question and found["known"] is True
    assert found["answers"][0]["facts"][0]["relation"] == relation

    lines = hmn(trained, "ask", "model", "-", "--json", stdin=f"\ufeff{question}\n\n??\n{question}\n")
    printed = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [line["question"] for line in printed] == [question, "??", question]
    assert "no word" in printed[1]["error"] and "no word" in lines.stderr
    assert printed[0]["answers"] == printed[2]["answers"] == found["answers"]
    assert lines.returncode == 2

    strange = hmn(trained, "ask", "model", "who directed the yellow submarine", "-k", "2")
    assert strange.returncode == 1
    first, *facts = strange.stdout.splitlines()
    assert first.startswith("not in the table (probability that it is: ") and facts[0].startswith("  ")
    found = json.loads(hmn(trained, "ask", "model", "who directed the yellow submarine", "--json").stdout)
    assert found["known"] is False and found["known_probability"] < 0.5
    surely = hmn(trained, "ask", "model", "who directed the yellow submarine", "--precision", "0")
    assert surely.returncode == 0 and surely.stdout.startswith("> ")


def test_facts_alone_are_enough(tmp_path: Path) -> None:
    (tmp_path / "my shop.v2.csv").write_text("product,column,value\nlamp,price,20 EUR\nlamp,colour,red\n")
    flags = ["--columns", "product,column,value", "--made-questions", "64", "--epochs", "1"]
    for line in TOML.splitlines()[5:10]:
        name, _, value = line.partition(" = ")
        flags += ["--" + name.replace("_", "-"), value]
    done = hmn(tmp_path, "train", "--facts", "my shop.v2.csv", *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "2 facts, no questions; the model goes to my shop-model"
    assert lines[1].startswith("64 questions made from the table, in the language 'en'")
    assert lines[-1] == 'wrote my shop-model; next: hmn ask my shop-model "a question"'
    assert "lamp (lamp) · " in hmn(tmp_path, "ask", "my shop-model", "price of the lamp").stdout
    done = hmn(tmp_path, "train", "--facts", "my shop.v2.csv", *flags)
    assert done.returncode == 2
    assert "my shop-model holds something already" in done.stderr
    assert "(--resume, --overwrite)" in done.stderr


@pytest.mark.slow
def test_another_index_for_one_run_and_a_sweep_over_all(trained: Path) -> None:
    evaluate = ["evaluate", "model", "--questions", "valid.tsv"]
    before = {path.name: path.read_bytes() for path in (trained / "model").iterdir()}
    own, other = (
        json.loads(hmn(trained, *evaluate, "--json", *more).stdout)
        for more in ([], ["--index", "cluster:num_clusters=20,num_probes=4"])
    )
    assert other["cells_scored"] == 36 and other["reads"] < own["reads"] == own["cells_scored"]
    drawn = ["--index", "cluster:num_clusters=20", "--strategy", "top-k:1+sample-k:1"]
    found = json.loads(hmn(trained, *evaluate, "--json", *drawn).stdout)
    assert found["reads"] == pytest.approx(found["cells_scored"] + 20)
    question = (trained / "valid.tsv").read_text().splitlines()[0].split("\t")[3]
    asked = ["ask", "model", question]
    assert hmn(trained, *asked, *drawn).stdout.startswith("> ")
    # so few tables that no hash agrees: the search looks further until it has cells
    sparse = hmn(trained, *asked, "--index", "wta-hash:num_tables=1,num_permutations=12,prefix=30")
    assert sparse.returncode == 0 and sparse.stdout.startswith("> ")
    for flags, message in {
        ("--index", "tree"): "no index 'tree'",
        ("--strategy", "top-k:1"): "clusters",
    }.items():
        done = hmn(trained, *asked, *flags)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1

    done = hmn(trained, *evaluate, "--sweep")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["structure", "setting"]
    assert "cluster, no codes" in done.stdout and "measuring exact (1 of" in done.stderr
    files = {path.name for path in (trained / "model.sweep").iterdir()}
    assert files >= {"sweep.json", "sweep.md"}
    assert ("sweep.png" in files) is ("no figure: " not in done.stderr)
    assert {path.name: path.read_bytes() for path in (trained / "model").iterdir()} == before


@pytest.mark.slow
def test_without_a_question_it_prompts(trained: Path) -> None:
    question = (trained / "valid.tsv").read_text().splitlines()[0].split("\t")[3]
    done = hmn(trained, "ask", "model", stdin=f"{question}\nwho wrote the yellow submarine\n")
    assert done.returncode == 0  # one of several questions may ask for what is not there
    assert done.stdout.count("> ") == done.stdout.count("not in the table") == 1


@pytest.mark.slow
def test_a_flag_wins_over_the_config_file(trained: Path) -> None:
    config = json.loads((trained / "model" / "config.json").read_text())
    assert config["table_bits"] == 11
    log = (trained / "model.run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log if "best" in line] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--questions", "train.tsv", "--out", "x"], "--facts is missing"),
        (["train", "--facts", "gone.tsv", "--questions", "train.tsv", "--out", "x"], "gone.tsv"),
        (["train", "--facts", "facts.tsv", "--questions", "train.tsv", "--out", "x", "--k", "0"], "k is 0"),
        (
            ["train", "--facts", "facts.tsv", "--questions", "train.tsv", "--out", "facts.tsv"],
            "facts.tsv holds",
        ),
        (["train", "--facts", "bad.tsv", "--questions", "train.tsv", "--out", "x"], "bad.tsv:2: "),
        (["train", "--config", "bad.toml"], "there is no setting 'colour'"),
        (["ask", "gone", "who"], "gone"),
        (["evaluate", "gone", "--questions", "valid.tsv"], "gone"),
        (
            ["train", "--facts", "gone.tsv", "--questions", "train.tsv", "--out", "x", "--index", "tree"],
            "there is no index 'tree', expected one of exact, cluster",
        ),
        (
            ["train", "--facts", "gone.tsv", "--questions", "q.tsv", "--out", "x", "--strategy", "top-k:4"],
            "strategy top-k:4 needs an index of clusters, got ExactIndex",
        ),
        (
            ["evaluate", "gone", "--questions", "valid.tsv", "--sweep", "--index", "cluster"],
            "leave --index and --strategy out",
        ),
        (["evaluate", "gone", "--questions", "valid.tsv", "--out", "x"], "--out is the folder of --sweep"),
    ],
)
def test_mistakes_are_reported_in_a_line_and_leave_nothing(
    small_files: Path, arguments: list[str], message: str
) -> None:
    (small_files / "bad.tsv").write_text("a\tb\tc\na\tb\n", encoding="utf-8")
    (small_files / "bad.toml").write_text('colour = "red"\n', encoding="utf-8")
    before = sorted(path.name for path in small_files.iterdir())
    done = hmn(small_files, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message.startswith("--facts") or (len(errors) == 1 and done.stderr.splitlines()[-1:] == errors)
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in small_files.iterdir()) == before


@pytest.mark.slow
def test_skip_bad_goes_on_and_counts(small_files: Path) -> None:
    facts = (small_files / "facts.tsv").read_bytes()
    (small_files / "facts.tsv").write_bytes(facts + b"one\n\xff\tb\tc\n" + facts.splitlines(keepends=True)[0])
    (small_files / "config.toml").write_text(TOML, encoding="utf-8")
    arguments = ["train", "--config", "config.toml", "--out", "model", "--epochs", "1"]
    assert hmn(small_files, *arguments).returncode == 2
    done = hmn(small_files, *arguments, "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert "skipped 2 bad lines, the first: facts.tsv:" in done.stderr
    assert "1 facts came again and are kept once: facts.tsv:" in done.stderr


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, good files, and everything that a path may lead to instead."""
    folder = tmp_path_factory.mktemp("odd")
    make_bundle(folder / "model")
    triples = [f"p{n}\tperson/born_in\ttown{n % 3}" for n in range(12)]
    (folder / "facts.tsv").write_text("\n".join(triples))
    (folder / "train.tsv").write_text(
        "\n".join(f"{line}\twhere was p{n} born" for n, line in enumerate(triples))
    )
    (folder / "empty").touch()
    (folder / "binary").write_bytes(bytes(range(256)) * 4)
    (folder / "utf16.tsv").write_text("\n".join(triples), encoding="utf-16")
    (folder / "cut.tsv.gz").write_bytes(b"\x1f\x8b" + b"x" * 50)
    (folder / "cut.parquet").write_bytes(b"PAR1xxxx")
    (folder / "list.json").write_text("[" * 100_000)
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").touch()
    (folder / "loop").symlink_to("loop")
    return folder


ODD_PATHS = ("gone", "empty", "binary", "utf16.tsv", "cut.tsv.gz", "cut.parquet", "list.json", "full", "loop",
             "", "facts.tsv/x", "x" * 300, "\udcff.tsv")  # fmt: skip
"""Paths that no command can read."""
ODD_PLACES = ("empty", "full", "facts.tsv/x", "x" * 250, "/proc/x", "loop", "\udcff")
"""Paths that no command can write to."""


def refused(folder: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one line that a command refuses its arguments with."""
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    done = RUNNER.invoke(app, arguments)
    assert isinstance(done.exception, SystemExit) and done.exit_code == 2, (arguments, done.exception)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors == done.stderr.splitlines()[-1:], (arguments, done.stderr)
    assert sorted(path.name for path in folder.iterdir()) == before
    return errors[0]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_what_cannot_be_read_is_refused_in_a_line(
    odd_files: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {
        "--facts": "facts.tsv",
        "--questions": "train.tsv",
        "--valid": "train.tsv",
        "--names": "facts.tsv",
    }
    commands = [["ask", path, "who"], ["evaluate", path, "--questions", "train.tsv"]]
    commands += [["evaluate", "model", "--questions", path]]
    for flag in good:
        flags = {**good, flag: path}
        commands.append(["train", "--out", "new", *(part for pair in flags.items() for part in pair)])
    if path not in ("empty", ""):
        commands.append(["train", "--config", path])
    for command in commands:
        refused(odd_files, *command, monkeypatch=monkeypatch)


@pytest.mark.parametrize("place", ODD_PLACES)
def test_where_nothing_can_be_written_is_refused_in_a_line(
    odd_files: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = "training or measuring has begun"
    monkeypatch.setattr("hmn.qa.factoid_qa.build_network", lambda *_, **__: pytest.fail(begun))
    train = ["train", "--facts", "facts.tsv", "--questions", "train.tsv", "--overwrite", "--out"]
    refused(odd_files, *train, place, monkeypatch=monkeypatch)
    if place in ("full", "x" * 250):
        return  # good enough for the folders of the other commands
    monkeypatch.setattr("hmn.qa.demo.run.build_world", lambda _: pytest.fail(begun))
    monkeypatch.setattr("hmn.paper.runs.runner.run_all", lambda *_: pytest.fail(begun))
    refused(odd_files, "demo", "--out", place, monkeypatch=monkeypatch)
    paper = [
        "paper",
        "--facts",
        "facts.tsv",
        "--train",
        "train.tsv",
        "--valid",
        "train.tsv",
        "--preset",
        "quick",
    ]
    refused(odd_files, *paper, "--only", "baselines", "--out", place, monkeypatch=monkeypatch)


def test_odd_text_on_standard_input_or_no_room_for_output(odd_files: Path) -> None:
    command = [sys.executable, "-m", "hmn.cli", "ask", "model"]
    for asked, stdin, out in (
        ("-", b"\xff\xfe", subprocess.PIPE),
        ("where was person 3 born", b"", "/dev/full"),
    ):
        with Path(out).open("w") if isinstance(out, str) else nullcontext(out) as stdout:
            done = subprocess.run(
                [*command, asked], cwd=odd_files, input=stdin, stdout=stdout, stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}, check=False,
            )  # fmt: skip
        assert done.returncode in (1, 2) and b"Traceback" not in done.stderr
        assert b"error: standard input or output: " in done.stderr


def test_notes_about_question_files_go_to_standard_error(
    odd_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = odd_files / "again.tsv"
    model = odd_files / "model"
    fact = FactTable.load(model).fact(0)
    path.write_text("\n".join(["\t".join([*fact[:3], "which one is it"])] * 2), encoding="utf-8")
    note = f"{path}: 1 questions came again and count each time: {path}:2: an earlier line is the same"
    done = RUNNER.invoke(app, ["evaluate", str(model), "--questions", str(path), "--json"])
    assert done.exit_code == 0 and done.stderr.splitlines() == [note]
    assert json.loads(done.stdout)["questions"] == 2

    def stop(*_: object, **__: object) -> None:
        raise DataError("enough")

    monkeypatch.setattr("hmn.qa.factoid_qa.build_network", stop)
    path.write_text("p1\tperson/born_in\ttown1\twhere was p1 born\n" * 2)
    train = ["train", "--facts", str(odd_files / "facts.tsv"), "--out", str(odd_files / "new")]
    for flags in (["--questions", str(path)], ["--valid", str(path)]):
        done = RUNNER.invoke(app, [*train, *flags])
        assert done.exit_code == 2 and note in done.stderr.splitlines(), done.stderr


def test_every_setting_is_a_flag() -> None:
    shown = RUNNER.invoke(app, ["train", "--help"], terminal_width=200).output
    for kind in (DataConfig, ModelConfig, TrainConfig):
        for one in fields(kind):
            assert f"--{one.name.replace('_', '-')} " in shown, one.name


def test_help_of_every_command() -> None:
    for command in ("demo", "train", "ask", "evaluate"):
        assert RUNNER.invoke(app, [command, "--help"]).exit_code == 0
