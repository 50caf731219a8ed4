"""The folder of a model: what is written, and what is checked when it is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fuzz.bundles import PRETRAINED, make_bundle, reseal
from tests.qa.small import CLUSTER, SIZES, TRAINING, contents, fitted
from torch import Tensor

from hmn.errors import BundleError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.registry import make_index
from hmn.qa.factoid_qa import FactoidQA
from hmn.store.bundle import writing_bundle

Split = tuple[QuestionSet, QuestionSet]


def assert_alike(one: FactoidQA, other: FactoidQA, questions: Sequence[str]) -> None:
    """Two models answer alike, up to the rounding of half precision."""
    for ours, theirs in zip(one.ask_all(questions, 5), other.ask_all(questions, 5), strict=True):
        assert ours[0].answers == theirs[0].answers
        expected = {answer.facts[0]: answer.probability for answer in theirs}
        for answer in ours:
            assert answer.probability == pytest.approx(expected.get(answer.facts[0], 0.0), abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("index", ["exact", CLUSTER])
def test_a_loaded_model_answers_as_the_saved_one(
    index: str, small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = fitted(small_facts, small_split, index=index)
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    texts = small_split[1].text[:50]
    assert_alike(again, qa, texts)
    assert again.config == qa.config
    # half precision rounds once: what is saved of a loaded model is what it was loaded from
    again.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


def test_tables_and_keys_are_saved_in_half_precision_and_rows_that_were_not_touched_are_not(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = FactoidQA(small_facts, **{**SIZES, "table_bits": 16, "word_bits": 16})
    qa.fit(*small_split, quiet=True, **{**TRAINING, "epochs": 1})
    qa.save_pretrained(tmp_path / "model")
    table = qa.network.state_dict()["input_module.table.weight"]
    saved = load_file(tmp_path / "model" / "model.safetensors")
    moved = (table - table.sign() * 32**-0.5).abs().amax(dim=1) > 0
    assert saved["input_module.table.weight|rows"].tolist() == moved.nonzero().flatten().tolist()
    assert saved["input_module.table.weight|values"].dtype == torch.float16
    keys = load_file(tmp_path / "model" / "memory.safetensors")
    assert {name: (len(value), value.dtype) for name, value in keys.items()} == {
        "names|rows": (len(qa.cells.names), torch.float16),
        "names|row_of": (len(qa.cells), torch.int32),
        "relations|rows": (len(small_facts.relations), torch.float16),
        "relations|row_of": (len(qa.cells), torch.int32),
    }
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) < 600_000 < table.nbytes
    again = FactoidQA.from_pretrained(tmp_path / "model")
    assert_alike(again, qa, small_split[1].text[:50])
    # names that come later get the first values of their words and n-grams
    others = ~moved
    assert torch.equal(again.network.state_dict()["input_module.table.weight"][others], table[others])
    for model in (qa, again):
        model.add_facts([("zyxwv", "person/born_in", "vwxyz")])
    assert again.ask("in which town was zyxwv born")[0].answers == ["vwxyz"]
    assert_alike(again, qa, ["in which town was zyxwv born"])


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "memory.safetensors", "facts.parquet", "names.parquet"]
)
def test_a_damaged_bundle_names_the_file(clustered: FactoidQA, tmp_path: Path, file: str) -> None:
    clustered.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=file):
        FactoidQA.from_pretrained(tmp_path / "model")
    path.unlink()
    with pytest.raises(BundleError, match=file):
        FactoidQA.from_pretrained(tmp_path / "model")


@pytest.mark.slow
def test_a_loaded_model_searches_the_structure_that_was_saved(
    clustered: FactoidQA, saved: Path, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **settings: Any) -> Tensor:  # noqa: ARG001
        raise AssertionError("k-means once more")

    monkeypatch.setattr("hmn.index.structures.cluster_levels.kmeans", refused)
    again = FactoidQA.from_pretrained(saved)
    with pytest.raises(AssertionError, match="once more"):
        make_index(CLUSTER).build(clustered.memory.snapshot())
    query = clustered.encode(small_split[1].text)
    one, two = (model.network.reader.index.search(query, 30) for model in (clustered, again))
    assert float((one.cell == two.cell).float().mean()) > 0.95  # the keys were rounded
    assert torch.allclose(one.score, two.score, rtol=1e-3, atol=1e-2)
    keys, state = again.memory.snapshot(), load_file(saved / "index.safetensors")
    assert "rows.keys" not in state
    assert not any(value.shape == keys.shape and value.is_floating_point() for value in state.values())
    assert_alike(again, clustered, small_split[1].text[:20])
    assert (again.config.index, again.config.strategy) == (CLUSTER, "top-k:1+sample-k:2")


def test_the_keys_are_there_once(saved: Path) -> None:
    again = FactoidQA.from_pretrained(saved)
    index: Any = again.network.reader.index
    assert index._rows.keys.data_ptr() == again.memory.snapshot().data_ptr()


@pytest.mark.parametrize("damage", ["nothing", "other settings", "fewer cells", "another structure"])
def test_a_structure_that_does_not_fit_is_reported(saved: Path, damage: str, tmp_path: Path) -> None:
    state = load_file(saved / "index.safetensors")
    other = make_index("pca-tree" if damage == "another structure" else "cluster:num_clusters=4")
    keys = FactoidQA.from_pretrained(saved).memory.snapshot()
    other.build(keys[: -5 if damage == "fewer cells" else None])
    if damage in ("fewer cells", "another structure"):
        state = other.state_dict(with_keys=False)
    if damage == "other settings":
        state.pop("leaves.codes")
    with writing_bundle(tmp_path / "bad") as folder:
        for file in saved.iterdir():
            if file.name not in ("manifest.json", "index.safetensors"):
                (folder / file.name).write_bytes(file.read_bytes())
        if damage != "nothing":
            save_file(state, folder / "index.safetensors")
    with pytest.raises(BundleError, match=r"index\.safetensors.*save") as caught:
        FactoidQA.from_pretrained(tmp_path / "bad")
    if damage != "nothing":
        assert CLUSTER in str(caught.value) and "index='exact'" in str(caught.value)
    assert FactoidQA.from_pretrained(tmp_path / "bad", index="exact").ask("where was anybody born")


def test_a_flipped_bit_in_the_structure_is_found(saved: Path) -> None:
    file = saved / "index.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"index\.safetensors"):
        FactoidQA.from_pretrained(saved)


def test_exact_search_keeps_no_structure_and_models_of_before_load(
    small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    qa = fitted(small_facts, small_split, tmp_path / "model", epochs=1)
    assert not (tmp_path / "model" / "index.safetensors").exists()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config.pop("index"), config.pop("strategy")) == ("exact", "k-mips")
    with writing_bundle(tmp_path / "old") as folder:
        for file in (tmp_path / "model").iterdir():
            if file.name not in ("manifest.json", "config.json"):
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "config.json").write_text(json.dumps(config))
    again = FactoidQA.from_pretrained(tmp_path / "old")
    assert_alike(again, qa, small_split[1].text[:9])


def _edit_json(file: str, **fields: Any) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        document = json.loads((bundle / file).read_text())
        (bundle / file).write_text(json.dumps({**document, **fields}))

    return edit


def _edit_tensors(file: str, change: Callable[[Tensor], Tensor], name: str) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        tensors = load_file(bundle / file)
        save_file({**tensors, name: change(tensors[name]).contiguous()}, bundle / file)

    return edit


def _edit_column(file: str, name: str, values: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        table = pq.read_table(bundle / file)
        column = values(table[name].cast(pa.string()).to_pylist())
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, pa.array(column)), bundle / file)

    return edit


def _write(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda bundle: (bundle / file).write_bytes(content) and None


WEIGHT = "input_module.relation.0.weight"
TABLE = "input_module.table.weight"
COUNTS = "input_module.table.document_frequency"
KEYS = "names|rows"
DAMAGES = [
    (_edit_json("config.json", hidden=2**31), r"config\.json: hidden is 2147483648, expected 1 to 65536"),
    (_edit_json("config.json", hidden=[1]), r"config\.json: hidden is \[1\], expected int"),
    (_edit_json("config.json", name_scale=10**400), r"config\.json: name_scale is 1000.*expected float"),
    (_edit_json("config.json", colour="red"), r"config\.json: there is no setting 'colour'"),
    (_edit_json("config.json", hidden=9), r"model\.safetensors: the weights do not fit.*\(\d.*expected"),
    (_write("examples.json", b"{}"), r"examples\.json: questions is None, expected a list of texts"),
    (_write("examples.json", b'{"questions": [1]}'), r"examples\.json: questions is \[1\]"),
    (_write("examples.json", b'{"questions": NaN}'), r"examples\.json: not valid JSON \(NaN"),
    (_edit_tensors("memory.safetensors", lambda old: old.sum(), KEYS), r"memory\.safetensors: .*is \(\) of"),
    (_edit_tensors("memory.safetensors", lambda old: old[:, 1:], KEYS), r"memory\.safetensors: .*expected"),
    (_edit_tensors("memory.safetensors", lambda old: old.long(), KEYS), r"memory\.safetensors: .*int64"),
    (_edit_tensors("memory.safetensors", lambda old: old / 0, KEYS), r"memory\.safetensors: .*NaN"),
    (
        _edit_tensors("memory.safetensors", lambda old: old.float() * 1e38, KEYS),
        r"memory\.safetensors: .*length",
    ),
    (
        _edit_tensors("memory.safetensors", lambda old: old[1:], "names|row_of"),
        r"memory\.safetensors: names\|row_of has .* expected one per key",
    ),
    (
        _edit_tensors("model.safetensors", lambda old: old + 2048, TABLE + "|rows"),
        r"model\.safetensors: .*weight\|rows holds .* expected row numbers from 0 to 2047",
    ),
    (
        _edit_tensors("model.safetensors", lambda old: old[1:], TABLE + "|values"),
        r"model\.safetensors: .*weight\|values is .* expected",
    ),
    (_edit_tensors("model.safetensors", lambda old: old.half(), WEIGHT), r"model\.safetensors: .*float16"),
    (_edit_tensors("model.safetensors", lambda old: old.int(), WEIGHT), r"model\.safetensors: .*int32"),
    (_edit_tensors("model.safetensors", lambda old: old * torch.inf, WEIGHT), r"model\.safetensors: .*NaN"),
    (
        _edit_tensors("model.safetensors", lambda old: 0 * old - 99, COUNTS + "|values"),
        r"model\.safetensors: input_module\.table\.document_frequency holds -99, expected counts",
    ),
    (_edit_tensors("index.safetensors", lambda old: old.sum(), "centroid"), r"index\.safetensors: not the"),
    (
        _edit_tensors("index.safetensors", lambda old: old[None][:0], "rows.used"),
        r"index\.safetensors: not the",
    ),
    (_edit_column("facts.parquet", "subject", lambda old: range(len(old))), r"facts\.parquet: .*int64"),
    (
        _edit_column("facts.parquet", "object", lambda old: [[text] for text in old]),
        r"facts\.parquet: .*list",
    ),
    (_edit_column("facts.parquet", "relation", lambda old: [None] * len(old)), r"facts\.parquet: .*null"),
    (_edit_column("facts.parquet", "subject", lambda old: [None, *old[1:]]), r"facts\.parquet: .*1 gaps"),
    (_edit_column("facts.parquet", "subject", lambda old: ["", *old[1:]]), r"facts\.parquet: .*every row"),
]
"""Damages of one value, and the message that names the file."""


@pytest.mark.parametrize(("edit", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_bad_value_under_a_good_checksum_is_reported_with_its_file(
    edit: Callable[[Path], None], message: str, saved: Path
) -> None:
    edit(saved)
    reseal(saved)
    with pytest.raises(BundleError, match=message):
        FactoidQA.from_pretrained(saved)


@pytest.mark.parametrize("file", ["facts.parquet", "names.parquet"])
def test_a_file_that_the_manifest_does_not_list_is_not_read(saved: Path, file: str) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["files"][file]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"no file '{file}' in the bundle"):
        FactoidQA.from_pretrained(saved)


def test_names_in_another_order_are_not_given_to_others(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "model")
    names = pq.read_table(bundle / "names.parquet")
    pq.write_table(names.take(list(range(names.num_rows))[::-1]), bundle / "names.parquet")
    reseal(bundle)
    with pytest.raises(BundleError, match=r"names\.parquet: its rows are not in the order"):
        FactoidQA.from_pretrained(bundle)


def test_a_model_of_another_precision_loads(saved: Path) -> None:
    expected = FactoidQA.from_pretrained(saved, index="exact").ask("where was anybody born", 3)
    for file in ("model.safetensors", "memory.safetensors"):
        tensors = load_file(saved / file)
        save_file({n: v.double() if v.is_floating_point() else v for n, v in tensors.items()}, saved / file)
    reseal(saved)
    answers = FactoidQA.from_pretrained(saved, index="exact").ask("where was anybody born", 3)
    assert [answer.answers for answer in answers] == [answer.answers for answer in expected]


NOT_NEEDED = (
    "torch._dynamo",
    "sympy",
    "rich",
    "pyarrow.compute",
    "pyarrow.dataset",
    "hmn.qa.training.trainer",
    "hmn.nn.writing.memory",
)
"""Modules that take long to import and that an answer does not need."""


def test_answering_imports_only_what_it_needs(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "model")
    script = (
        "import sys; from hmn.qa.factoid_qa import FactoidQA; "
        f"FactoidQA.from_pretrained({str(bundle)!r}).ask('where was person 3 born'); "
        f"print([name for name in {NOT_NEEDED!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_pretrained_encoder_is_compared_with_its_weights_before_it_is_made(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the extra 'pretrained' is not installed")
    bundle = make_bundle(tmp_path / "model", PRETRAINED)
    for field, value in {"hidden_size": 2**31, "num_hidden_layers": 10**9, "model_type": None}.items():
        copy = Path(shutil.copytree(bundle, tmp_path / field))
        _edit_json("encoder.json", **{field: value})(copy)
        reseal(copy)
        with pytest.raises(BundleError, match=r"encoder\.json: the pretrained encoder cannot be made"):
            FactoidQA.from_pretrained(copy)
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["born"] = 10
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))
    reseal(bundle)
    with pytest.raises(BundleError, match="the tokenizer gives piece 10, the transformer has 10"):
        FactoidQA.from_pretrained(bundle)
