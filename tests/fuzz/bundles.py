"""Damages saved bundles in ways that checksums do not notice, and looks at what becomes of them."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmn.errors import HMNError, NonFiniteError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.encoders.pretrained import SentenceEncoder
from hmn.qa.factoid_qa import FactoidQA
from hmn.store.manifest import MANIFEST, seal

SIZES = {
    "table_bits": 8,
    "name_features": 6,
    "relation_features": 5,
    "word_bits": 8,
    "word_features": 4,
    "hidden": 3,
}
"""Settings of a model of a few kilobytes."""
INDEXES = (
    "exact",
    "cluster:num_clusters=4,num_probes=2",
    "hierarchy:num_groups=2x4,reach=12",
    "wta-hash:num_tables=3,num_permutations=2,prefix=3,num_probes=1",
    "pca-tree:leaf_size=4,num_leaves=3",
)
"""Indexes that a bundle may hold."""
PRETRAINED = "pretrained"
"""Stands for a bundle with exact search and a pretrained encoder."""
STOPPED_AT = 5
"""Step after which the training of a checkpoint was interrupted."""
QUESTION = "where was person 3 born"
"""Question that a damaged bundle is asked."""
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, 10**30, -(2**63), 1.5, -0.0, 1e-320, 1e308),
    *("", "\0", "exact", "cluster", "softmax", "minilm", "k-mips+top-k:1", "hierarchy:num_groups=9x9"),
    *("../config.json", "é" * 3000, [], [0], [None], [[]], {}, {"a": 1}, {"": {}}),
)
"""Values that a field of a JSON file is given."""
ODD_FILES: tuple[bytes, ...] = (
    *(b"", b"\0" * 9, b"\xff\xfe", b"null", b"[]", b"7", b'"text"', b"{", b"{}", b'{"a": NaN}', b"-Infinity"),
    *(b'{"kind": "factoid-qa", "kind": "factoid-qa"}', b"[" * 100_000, b'{"a":' * 5000, b'{"questions": 3}'),
    *(b'{"questions": [[]]}', b'{"questions": [1, null]}', b'{"\\ud800": "\\udfff"}', b"9" * 5000),
    *(b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 8 + b"{}"),
)
"""Contents that a whole file is replaced by."""


def tiny_encoder() -> SentenceEncoder:
    """A transformer of one layer that was never trained, with a tokenizer of ten words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModel

    words = ["[UNK]", "person", "where", "was", "born", "what", "is", "the", "job", "of"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1}
    config = AutoConfig.for_model("bert", vocab_size=len(words), **sizes)
    transformer = AutoModel.from_config(config, add_pooling_layer=False)
    return SentenceEncoder(transformer, config.to_dict(), tokenizer.to_str())


def make_bundle(folder: Path, index: str = "exact") -> Path:
    """Train a model of a few kilobytes and save it; ``PRETRAINED`` gives one with a tiny transformer."""
    with _tiny_encoder_for(index):
        _train(index).save_pretrained(folder)
    return folder


def make_checkpoint(folder: Path, index: str = "exact") -> Path:
    """Begin to train a model into ``folder`` and stop after some steps; returns its checkpoint."""

    def stop(step: int, total: int) -> None:  # noqa: ARG001
        if step == STOPPED_AT:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), _tiny_encoder_for(index):
        _train(index, out=folder, on_progress=stop)
    return folder.with_name(folder.name + ".run") / "checkpoint"


def _train(index: str, **options: Any) -> FactoidQA:
    """Train on the questions about twelve people."""
    people = range(12)
    triples = [(f"p{n}", "person/born_in", f"town{n % 3}") for n in people]
    triples += [(f"p{n}", "person/job", f"job{n % 4}") for n in people]
    names = {f"p{n}": [f"person {n}", f"nick{n}"] for n in people}
    facts = FactTable.from_triples(triples, names)
    rows = [(*triple, f"where was person {n} born") for n, triple in enumerate(triples[:12])]
    rows += [(*triple, f"what is the job of person {n}") for n, triple in enumerate(triples[12:])]
    settings = {"encoder": "minilm"} if index == PRETRAINED else {"index": index}
    model = FactoidQA(facts, k=4, meaning_features=2, **settings, **SIZES)
    training = {
        "epochs": 2,
        "batch_size": 8,
        "renew_steps": 2,
        "recall": 0.0,
        "checkpoint_seconds": 0.0,
        "made_questions": 0,
    }
    return model.fit(QuestionSet.from_rows(facts, rows), quiet=True, **training, **options)


@contextmanager
def _tiny_encoder_for(index: str) -> Iterator[None]:
    """Let ``minilm`` be the tiny transformer, if the bundle is to have one."""
    with pytest.MonkeyPatch.context() as patch:
        if index == PRETRAINED:
            encoder = tiny_encoder()
            patch.setattr("hmn.qa.factoid_qa.open_encoder", lambda name: encoder)  # noqa: ARG005
        yield


def reseal(bundle: Path) -> None:
    """Write a manifest that fits the files as they are."""
    (bundle / MANIFEST).unlink(missing_ok=True)
    seal(bundle)


def damage(bundle: Path, rng: random.Random) -> str:
    """Damage one thing in a bundle at random; says what."""
    kind = rng.random()
    if kind < 0.08:
        return damage_manifest(bundle, rng)
    file = rng.choice(sorted(path for path in bundle.iterdir() if path.name != MANIFEST))
    if kind < 0.13:
        reseals = rng.random() < 0.7
        text = _flip_bits(file, rng)
        if reseals:
            reseal(bundle)
        return f"{file.name}: {text}, {'resealed' if reseals else 'not resealed'}"
    if kind < 0.18:
        content = rng.choice(ODD_FILES)
        file.write_bytes(content)
        text = f"holds {content[:20]!r}, {len(content)} bytes"
    else:
        text = _BY_SUFFIX[file.suffix](file, rng)
    reseal(bundle)
    return f"{file.name}: {text}"


def outcome(bundle: Path, question: str = QUESTION) -> str:
    """Load a bundle and ask it a question: ``answered``, or the named error.

    Raises:
        AssertionError: neither a well-formed answer nor an error that names a file of the bundle.
    """
    try:
        model = FactoidQA.from_pretrained(bundle)
    except HMNError as error:
        assert any(file in str(error) for file in FILES) or str(bundle) in str(error), (
            f"{type(error).__name__} names no file: {error}"
        )
        assert len(str(error)) < 2000, f"a message of {len(str(error))} characters"
        return f"{type(error).__name__}: {error}"
    try:
        answers = model.ask(question)
    except HMNError as error:
        return f"at the question, {type(error).__name__}: {error}"
    for answer in answers:
        assert 0 <= answer.probability <= 1.000001, f"probability {answer.probability}"
        assert answer.count >= len(answer.facts) == len(answer.answers) >= 1
        assert all(isinstance(name, str) and name for name in answer.answers)
    return "answered"


def resumed(folder: Path, index: str = "exact") -> str:
    """Resume the training whose checkpoint lies beside ``folder``: ``trained``, or the named error.

    Raises:
        AssertionError: the error names no file.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with _tiny_encoder_for(index):
            model = _train(index, out=folder, resume=True)
    except HMNError as error:
        overflow = isinstance(error, NonFiniteError)  # finite weights, but training does not stay finite
        named = overflow or any(file in str(error) for file in FILES) or str(folder) in str(error)
        assert named, f"{type(error).__name__} names no file: {error}"
        return f"{type(error).__name__}: {error}"
    try:
        model.ask(QUESTION)
    except NonFiniteError as error:  # trained to the end, on moments that lead far away
        return f"at the question, {type(error).__name__}: {error}"
    return "trained"


def batch(seed: int, cases: int = 60) -> None:
    """Damage ``cases`` bundles and a third as many checkpoints of one kind of index, drawn from a seed.

    Raises:
        AssertionError: one was neither used nor refused by the name of a file; says how to make it again.
    """
    index = random.Random(seed).choice([*INDEXES, PRETRAINED])
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundle, checkpoint = make_bundle(folder / "whole", index), make_checkpoint(folder / "begun", index)
        for case in range(cases):
            try_damaged(f"{seed} {case}", bundle, folder / "bundle", outcome)
            if case % 3 == 0:
                run = folder / "resumed.run" / "checkpoint"
                try_damaged(f"{seed} {case}", checkpoint, run, lambda _: resumed(folder / "resumed", index))


def try_damaged(
    seed: str, whole: Path, copy: Path, use: Callable[[Path], str], *, damaged: bool = True
) -> str:
    """Damage a copy of a bundle and use it.

    Raises:
        AssertionError: it was neither used nor refused by the name of a file.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    what = damage(copy, random.Random(seed)) if damaged else "nothing"
    try:
        return use(copy)
    except Exception as error:
        raise AssertionError(f"case {seed!r}, {what}: {type(error).__name__}: {error}") from error


FILES = (
    *(MANIFEST, "config.json", "model.safetensors", "memory.safetensors", "index.safetensors"),
    *(
        "cells.safetensors",
        "examples.json",
        "facts.parquet",
        "names.parquet",
        "encoder.json",
        "tokenizer.json",
    ),
    *("state.json", "state.safetensors"),
)
"""Names of the files that bundles hold."""


def damage_manifest(bundle: Path, rng: random.Random) -> str:
    """Damage the manifest itself; all other files stay as they are."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    files, action = manifest["files"], rng.randrange(8)
    name = rng.choice(sorted(files))
    if action == 0:
        del files[name]
        text = f"does not list {name}"
    elif action == 1:
        files["extra.json"] = rng.choice([files[name], 3, None, {}, {"size": 1, "crc32": "00000000"}])
        text = "lists a file that is not there"
    elif action == 2:
        path = rng.choice(
            ["/etc/hostname", "../" + name, "a/b", "", ".", "..", name + "\0", "ä" * 9, MANIFEST]
        )
        files[path] = files.pop(name)
        text = f"lists {name} as {path!r}"
    elif action == 3:
        files[name][rng.choice(["size", "crc32", "more"])] = rng.choice(ODD_VALUES)
        text = f"has an odd entry for {name}"
    elif action == 4:
        manifest[rng.choice(["format", "version", "files", "more"])] = rng.choice(ODD_VALUES)
        text = "has an odd field"
    elif action == 5:
        manifest.pop(rng.choice(sorted(manifest)))
        text = "lacks a field"
    elif action == 6:
        (bundle / name).unlink()
        text = f"lists {name}, which is gone"
    else:
        (bundle / MANIFEST).write_bytes(rng.choice(ODD_FILES))
        return f"{MANIFEST}: is odd"
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return f"{MANIFEST}: {text}"


def _flip_bits(file: Path, rng: random.Random) -> str:
    """Flip a few bits, or cut the file short."""
    data = bytearray(file.read_bytes())
    if rng.random() < 0.2:
        length = rng.randrange(len(data))
        file.write_bytes(data[:length])
        return f"cut to {length} of {len(data)} bytes"
    places = [rng.randrange(len(data)) for _ in range(rng.choice([1, 1, 3, 30]))]
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return f"bits flipped in {len(places)} bytes"


def _damage_json(file: Path, rng: random.Random) -> str:
    """Change, add or remove one field, at any depth."""
    document = json.loads(file.read_bytes())
    places = list(_places(document))
    holder, key = rng.choice(places)
    action = rng.randrange(4)
    if action == 0:
        del holder[key]
        text = f"{key!r} is missing"
    elif action == 1 and isinstance(holder, dict):
        holder[rng.choice(["extra", "", "\0", "kind ", "é" * 500])] = rng.choice(ODD_VALUES)
        text = "there is a further field"
    else:
        holder[key] = value = rng.choice(ODD_VALUES)
        text = f"{key!r} is {value!r:.60}"
    file.write_text(json.dumps(document))
    return text


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON document, as what holds it and its key."""
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    found = [(document, key) for key in keys]
    for key in keys:
        if isinstance(document[key], (dict, list)):
            found += _places(document[key])
    return found


def _damage_parquet(file: Path, rng: random.Random) -> str:
    """Change one column, or the number of rows."""
    table, statistics = pq.read_table(file), True
    name, action = rng.choice(table.column_names), rng.randrange(6)
    if action == 0:
        table = table.drop_columns([name])
        text = f"no column {name}"
    elif action == 1:
        table = table.append_column(rng.choice(["extra", name, ""]), table[name])
        text = "a further column"
    elif action == 2:
        count = rng.choice([0, 1, table.num_rows - 1])
        table = table.slice(0, count)
        text = f"{count} rows"
    elif action == 3:
        rows = [rng.randrange(table.num_rows) for _ in range(rng.choice([table.num_rows, 40]))]
        table = table.take(rows)
        text = f"{len(rows)} rows in another order, some repeated"
    elif action == 4:
        table = table.rename_columns(
            [rng.choice(["", "subject ", "name", other]) for other in table.column_names]
        )
        text = f"columns {table.column_names}"
    else:
        label = rng.choice(sorted(ODD_COLUMNS))
        column = ODD_COLUMNS[label](table[name].cast(pa.large_string()).to_pylist())
        table = table.set_column(table.column_names.index(name), name, column)
        text, statistics = f"column {name} holds {label}", False  # to count bad indices would end the process
    pq.write_table(table, file, write_statistics=statistics)
    return text


def _bad_dictionary(values: list[Any]) -> pa.Array:
    indices = pa.array([*([0] * (len(values) - 1)), 99], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(["p0"]), safe=False)


def _invalid_text(values: list[Any]) -> pa.Array:
    return pa.array([b"\xff\xfe"] * len(values), pa.binary()).view(pa.string())


ODD_COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "whole numbers": lambda values: pa.array(range(len(values))),
    "numbers": lambda values: pa.array([math.nan] * len(values)),
    "truths": lambda values: pa.array([True] * len(values)),
    "lists": lambda values: pa.array([[value] for value in values]),
    "structures": lambda values: pa.array([{"a": value} for value in values]),
    "nothing": lambda values: pa.nulls(len(values)),
    "missing texts": lambda values: pa.array([None] * len(values), pa.string()),
    "one missing text": lambda values: pa.array([None, *values[1:]], pa.string()),
    "missing texts in a dictionary": lambda values: pa.array([None, *values[1:]]).dictionary_encode(),
    "an index beyond its dictionary": _bad_dictionary,
    "bytes": lambda values: pa.array([value.encode() for value in values], pa.binary()),
    "text that is not UTF-8": _invalid_text,
    "blank texts": lambda values: pa.array(["", *values[1:]]),
    "texts with NUL": lambda values: pa.array(["a\0b", *values[1:]]),
    "one text": lambda values: pa.array([values[0]] * len(values)),
    "other texts": lambda values: pa.array([value + "x" for value in values]),
    "reversed texts": lambda values: pa.array(values[::-1]),
    "long texts": lambda values: pa.array(["word " * 50_000, *values[1:]]),
    "numbers in a dictionary": lambda values: pc.dictionary_encode(pa.array(range(len(values)))),
    "dates": lambda values: pa.array([0] * len(values), pa.date32()),
}
"""Columns that take the place of one of texts, by what they hold."""

DTYPES = (
    *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.bool, torch.float32, torch.complex64, torch.float8_e4m3fn),
)
"""Types that a tensor is cast to."""
NUMBERS = (math.nan, math.inf, -math.inf, 0, -1, 1, 1e38, -1e38, 1e-42, 2**31, 2**40, 10**9, 2**62)
"""Numbers that places of a tensor are set to."""


def _damage_tensors(file: Path, rng: random.Random) -> str:
    """Change one tensor of a safetensors file."""
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    action = rng.randrange(10)
    if action == 0:
        del tensors[name]
        text = f"no tensor {name}"
    elif action == 1:
        tensors[rng.choice(["extra", "", name + ".more", "é"])] = tensors[name].clone()
        text = "a further tensor"
    else:
        changed, text = _damaged_tensor(tensors[name], rng)
        tensors[name] = changed.contiguous().clone()
        text = f"{name}: {text}"
    save_file(tensors, file)
    return text


def _damaged_tensor(tensor: Tensor, rng: random.Random) -> tuple[Tensor, str]:
    """Another type, shape or number in a tensor."""
    action = rng.randrange(5)
    if action == 0:
        dtype = rng.choice(DTYPES)
        return tensor.to(dtype), f"{tensor.dtype} as {dtype}"
    if action == 1:
        shapes: list[Callable[[Tensor], Tensor]] = [
            lambda old: old.flatten()[:1].sum(),
            lambda old: old.flatten(),
            lambda old: old.flatten()[:0],
            lambda old: old.unsqueeze(0),
            lambda old: old.unsqueeze(-1),
            lambda old: old[:-1] if old.dim() else old.reshape(1),
            lambda old: torch.cat([old, old]) if old.dim() else old.repeat(2),
            lambda old: old[..., :-1] if old.dim() else old.reshape(1, 1),
            lambda old: old.new_zeros((0, *old.shape[1:])),
            lambda old: old.new_zeros((*old.shape[:1], 0)),
        ]
        changed = rng.choice(shapes)(tensor)
        return changed, f"{tuple(tensor.shape)} as {tuple(changed.shape)}"
    changed, number = tensor.clone(), rng.choice(NUMBERS)
    if not tensor.dtype.is_floating_point:
        limits = torch.iinfo(tensor.dtype) if tensor.dtype != torch.bool else torch.iinfo(torch.uint8)
        number = max(limits.min, min(limits.max, 0 if math.isnan(number) else number))
        number = int(number) if math.isfinite(number) else limits.max
    elif math.isfinite(number):
        most = torch.finfo(tensor.dtype).max
        number = max(-most, min(most, number))
    if action == 2 or not changed.numel():
        return changed.fill_(number), f"all {number}"
    if action == 3:
        rows = rng.sample(range(len(changed)), len(changed)) if changed.dim() else [0]
        return (changed[rows] if changed.dim() else changed), "rows in another order"
    changed.view(-1)[rng.randrange(changed.numel())] = number
    return changed, f"one place is {number}"


_BY_SUFFIX: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": _damage_json,
    ".parquet": _damage_parquet,
    ".safetensors": _damage_tensors,
}
