"""The shape of the package: imports go down, files are small, tests mirror it, nothing runs what it reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "hmn"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for home in (PACKAGE, ROOT / "bench") for path in home.rglob("*.py")})

ORDER = {
    "hmn": "errors lazy results starting < _native < machine index facts < nn store < distributed < qa"
    " < paper serve < cli < __init__ __main__",
    "hmn._native": "_kernels backend finite < arguments < allowed.filter level < codes watch < fallback"
    " < allowed buckets lists reading search < groups < __init__",
    "hmn.cli": "output < flags < ask demo evaluate facts paper serving < train < app < __init__ __main__",
    "hmn.cli.serving": "compact table < serve < __init__",
    "hmn.distributed": "collectives < rows < drawing shared_clusters < sharded_index < sharded_memory"
    " < replicas < saving < __init__",
    "hmn.distributed.saving": "row_files training_state < loading < checkpoint < __init__",
    "hmn.facts": "ids ragged < files < rdf wide < growing names numbering < given < lookup < table < topic"
    " changing < questions < __init__",
    "hmn.facts.given": "relations wide < facts < __init__",
    "hmn.facts.rdf": "statements < graph < __init__",
    "hmn.facts.wide": "cells < recognition < facts < __init__",
    "hmn.facts.files": "raw headers texts < source < layout < separators < delimited excel json_lines parquet"
    " < formats < __init__",
    "hmn.facts.files.raw": "packed < encodings opening < lines < __init__",
    "hmn.index": "checks locking precision watch < allowed < protocol < ranges storage"
    " < among clustering"
    " < structures < registry tuning < __init__",
    "hmn.index.structures": "base cluster_levels faiss_rows screening"
    " < cluster_among exact < cluster faiss hierarchy pca_tree wta_hash < __init__",
    "hmn.index.structures.hierarchy": "directions < groups < calibration state upkeep < build < index"
    " < __init__",
    "hmn.nn": "clipping products row_adam settings weights < candidates loss < parts < memory < attention"
    " reader < hops layer writing < network < writing.controller < __init__",
    "hmn.nn.writing": "recency tape links finding < blending changing < memory < cores heads"
    " < controller < __init__",
    "hmn.paper": "cells.transe process published < preset < data grid < cells < network < baselines < runs"
    " < verdicts < report < __init__",
    "hmn.qa": "config words over_ranks < text < cells < answer encoders made_questions metrics < hops < known"
    " < asking < training < build < changes use_index < saved_model < factoid_qa < demo sweep < __init__",
    "hmn.qa.hops": "graph < beam encoder < reader stops < answers < network < evaluate < __init__",
    "hmn.qa.known": "seen_words strangers < evidence head < judge < chain_judge < __init__",
    "hmn.qa.made_questions": "language made_up_words < writer < mixing < __init__",
    "hmn.qa.over_ranks": "cells launch lead < __init__",
    "hmn.qa.training": "artificial_questions optim query_log search_depth targets < trainer"
    " < chain_trainer progress_bar < run_folder < fit < __init__",
    "hmn.qa.words": "checksums folding letters < chinese scripts < splitting < alike < __init__",
    "hmn.serve": "writes writes.operations writes.lock writes.together find < writes.net_change journal"
    " < client pages served < compact http < __init__",
    "hmn.serve.http": "settings problems schemas metrics < auth batching limits shown"
    " < app < server < __init__",
    "hmn.store": "atomic contents rows values < manifest < replace < bundle < indexes < __init__",
}
"""Modules and folders of a package from the bottom up; each may import those before its own ``<`` only."""

LIGHT = ["hmn.qa.config", "hmn.facts.ids", "hmn.qa.text", "hmn.cli.app"]
"""Modules that import neither torch nor pyarrow, so that ``hmn --help`` is instant."""

BARRED_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
"""Modules that run what they read."""

MOST_LINES = 400
"""Upper limit of lines per file."""

MOST_FILES = 10
"""Upper limit of Python files per folder, ``__init__.py`` not counted."""

MIRRORED_IN = {"bench": ROOT, "scripts": ROOT}
"""Folders of tests that mirror a folder beside ``src``, and where that folder is."""

TESTS_OF_NO_MODULE = {
    "_native/test_best_of.py": "cells scored in full, by the kernel and by PyTorch",
    "distributed/test_fsdp.py": "models whose dense part FSDP2 shards",
    "distributed/test_gpu.py": "cells on GPUs, and gradients that travel over NCCL",
    "distributed/test_layers.py": "layers and encoders over several ranks",
    "distributed/test_networks.py": "networks, readers and draws over several ranks",
    "distributed/test_restarts.py": "a training under torchrun that is killed",
    "docs/test_blocks.py": "code in the documentation",
    "docs/test_links.py": "links in the documentation",
    "test_public.py": "the names that packages re-export",
    "test_defaults.py": "the default dtype and device of PyTorch, which change no structure and no layer",
    "test_rooms.py": "the shape of the package",
    "fuzz/test_fuzz.py": "the fuzzer",
    "fuzz/test_files.py": "damaged files of facts",
    "fuzz/test_bundles.py": "bundles and checkpoints with damaged content",
    "index/test_filled_places.py": "k results as long as there are k cells, in every structure",
    "index/test_damaged_states.py": "index states whose tensors are damaged, in every structure",
    "index/test_contract.py": "every structure, compared with exact search",
    "index/structures/test_approximate.py": "what all approximate structures share",
    "index/test_version_0_1.py": "index states of version 0.1 in tests/data",
    "nn/attention/test_checkpoint.py": "layers under activation checkpointing",
    "nn/attention/test_programs.py": "layers that are compiled, exported and transformed by torch.func",
    "nn/test_arguments.py": "odd values at every entry of layers, memories, readers and losses",
    "nn/test_copies.py": "copies of layers and networks",
    "paper/baselines/test_baselines.py": "BM25 and sentence encoders",
    "paper/report/test_committed_report.py": "the report in docs/paper",
    "paper/runs/test_committed_results.py": "the results in docs/paper",
    "paper/runs/test_command.py": "hmn paper, from files to a report",
    "qa/test_use_index.py": "another index for a trained model",
    "qa/test_version_0_1.py": "models of version 0.1 in tests/data",
    "qa/training/test_index_in_training.py": "an index that follows a training",
    "typing/test_user_script.py": "a user's script under strict type checkers",
}
"""Test files that are named after no module, and what they test."""


def dotted(path: Path) -> str:
    """The module of a file of the package; that of a folder's ``__init__.py`` ends with ``__init__``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


MODULES = {dotted(path): path for path in FILES}


def resolved(name: str) -> str:
    """The module that an imported name lies in: itself, or the package or module that it is a part of."""
    while name and name not in MODULES:
        if f"{name}.__init__" in MODULES:
            return f"{name}.__init__"
        name = name.rpartition(".")[0]
    return name


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, at any depth, but for those that only type checkers read."""
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, expected one from hmn"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level(package: str, module: str) -> int:
    """The level of a module in the order of a package, by the longest entry that it lies in."""
    inside = module.removeprefix(f"{package}.")
    entries = {
        entry: number for number, names in enumerate(ORDER[package].split("<")) for entry in names.split()
    }
    while inside and inside not in entries:
        inside = inside.rpartition(".")[0]
    assert inside, f"{module} is new in {package}: give it a level in ORDER"
    return entries[inside]


def room(package: str, module: str) -> str:
    """The module or folder of a package that a module lies in."""
    return module.removeprefix(f"{package}.").split(".")[0]


def upward(own: str, other: str) -> str | None:
    """Why one module must not import another, if it must not."""
    for package in ORDER:
        if all(module.startswith(f"{package}.") for module in (own, other)):
            above, below = level(package, own), level(package, other)
            in_one_room = room(package, own) == room(package, other) and above == below
            if below >= above and not in_one_room:
                return f"{own} imports {other}, which is not below it in {package}"
    return None


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


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_go_down_only(path: Path) -> None:
    own = dotted(path)
    for package in ORDER:
        if own.startswith(f"{package}."):
            level(package, own)
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        other = resolved(name)
        assert not name.startswith("hmn.") or other, f"{own} imports {name}, which does not exist"
        if other and other != own:
            assert upward(own, other) is None, upward(own, other)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("hmn.index.tuning", "hmn.nn.parts"),
        ("hmn.nn.loss", "hmn.store.bundle"),
        ("hmn.nn.memory.stored", "hmn.nn.network"),
        ("hmn.nn.memory.stored", "hmn.__init__"),
        ("hmn.index.structures.hierarchy.groups", "hmn.index.structures.hierarchy.index"),
        ("hmn.index.storage.buckets", "hmn.index.structures.exact"),
        ("hmn.paper.cells.transe", "hmn.paper.preset"),
        ("hmn.paper.cells.transe", "hmn.paper.cells.fixed"),
    ],
)
def test_an_import_that_goes_up_is_noticed(own: str, other: str) -> None:
    assert upward(own, other)


def test_an_import_within_a_folder_is_free_where_it_has_no_order() -> None:
    assert upward("hmn.nn.memory.stored", "hmn.nn.memory.encoded") is None


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_are_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines, expected {MOST_LINES} at most: split the file"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_folders_are_small(folder: Path) -> None:
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, f"{len(files)} files, expected {MOST_FILES} at most: make folders"


def test_every_folder_is_a_package() -> None:
    assert [
        folder for folder in {path.parent for path in FILES} if not (folder / "__init__.py").exists()
    ] == []


def test_tests_mirror_the_package() -> None:
    tests = ROOT / "tests"
    files = {path.relative_to(tests).as_posix(): path for path in tests.rglob("test_*.py")}
    assert sorted(set(TESTS_OF_NO_MODULE) - set(files)) == [], "exceptions that are needed no more"
    astray = []
    for name, path in files.items():
        if name not in TESTS_OF_NO_MODULE:
            home = MIRRORED_IN.get(name.split("/")[0], PACKAGE) / Path(name).parent
            module = path.stem.removeprefix("test_")
            if not (home / f"{module}.py").exists() and not (home / module).is_dir():
                astray.append(name)
    assert astray == [], "test files that are named after no module or folder at the same place"


@pytest.mark.parametrize("path", FILES, ids=named)
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
