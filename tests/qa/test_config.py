"""Settings are read, checked and refused by name."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from hmn.errors import ConfigError
from hmn.qa.config import DataConfig, ModelConfig, TrainConfig, make_configs, read_config, settings_of, sized

KINDS = (DataConfig, ModelConfig, TrainConfig)
EVERY = [(kind, one.name) for kind in KINDS for one in fields(kind)]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "settings.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_is_read_with_dashes_or_underscores(tmp_path: Path) -> None:
    path = written(tmp_path, 'facts = "f.tsv"\nskip-bad = true\nbatch_size = 7\nlearning-rate = 1\nk = 3\n')
    settings = read_config(path)
    assert settings == {"facts": "f.tsv", "skip_bad": True, "batch_size": 7, "learning_rate": 1, "k": 3}
    data, model, training = make_configs(settings)
    assert (data.facts, data.skip_bad, data.names) == ("f.tsv", True, None)
    assert (model.k, model.reader) == (3, "kmips")
    assert (training.batch_size, training.learning_rate) == (7, 1.0)
    assert type(training.learning_rate) is float
    assert read_config(str(path)) == settings


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert make_configs(read_config(written(tmp_path, ""))) == (DataConfig(), ModelConfig(), TrainConfig())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k = ", "readable TOML"),
        ("k = 1\nk = 2", "readable TOML"),
        (b"\xff\xfe", "readable TOML"),
        ("kk = 3", "there is no setting 'kk': did you mean k"),
        ("epoch = 3", "there is no setting 'epoch': did you mean epochs"),
        ("colour = 3", "there is no setting 'colour': expected one of: .*batch_size"),
        ("[train]\nepochs = 1", "there is no setting 'train'"),
        ('k = "3"', "k is '3', expected int"),
        ("k = 0", "k is 0, expected 1 to 2147483647"),
        ("k = 2026-01-01", "expected int"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"settings\.toml: .*{said}"):
        read_config(written(tmp_path, text))


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: no such file.*check the path"):
        read_config(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match=tmp_path.name):
        read_config(tmp_path)


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=[name for _, name in EVERY])
def test_every_setting_is_known_explained_and_of_a_plain_type(kind: type, name: str) -> None:
    (one,) = (one for one in fields(kind) if one.name == name)
    explanation = one.metadata["help"]
    assert explanation[0].isupper() and explanation.endswith(".")
    types = get_type_hints(kind)[name]
    assert set(get_args(types) or (types,)) <= {str, int, float, bool, type(None)}
    assert type(one.default) in (get_args(types) or (types,))
    place = KINDS.index(kind)
    assert getattr(make_configs({name: one.default})[place], name) == one.default


def test_no_setting_is_in_two_configurations() -> None:
    names = [name for _, name in EVERY]
    assert len(set(names)) == len(names)
    assert sorted(settings_of(DataConfig(), ModelConfig(), TrainConfig())) == sorted(names)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("k", True, "int"),
        ("k", 3.0, "int"),
        ("k", None, "int"),
        ("epochs", "4", "int"),
        ("objects", 1, "bool"),
        ("objects", "yes", "bool"),
        ("dropout", True, "float"),
        ("dropout", "0.1", "float"),
        ("reader", 3, "str"),
        ("facts", 3, "str or NoneType"),
        ("columns", ["a", "b", "c"], "str"),
    ],
)
def test_wrong_types_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*expected {expected}$"):
        make_configs({name: value})


RANGES: dict[str, tuple[Any, Any]] = {
    "k": (1, None),
    "beam": (1, None),
    "hops": (1, 16),
    "name_features": (1, None),
    "relation_features": (1, None),
    "meaning_features": (1, None),
    "word_features": (1, None),
    "hidden": (1, None),
    "table_bits": (8, 26),
    "word_bits": (8, 26),
    "count_bits": (8, 26),
    "dropout": (0.0, 0.95),
    "word_dropout": (0.0, 0.95),
    "name_scale": (0.01, 1000.0),
    "epochs": (1, None),
    "patience": (1, None),
    "batch_size": (1, None),
    "renew_steps": (1, None),
    "warmup": (0, None),
    "seed": (0, None),
    "threads": (0, None),
    "checkpoint_seconds": (0.0, None),
    "other_subject": (0.0, 1.0),
    "relation_words": (0.0, 1.0),
    "joined": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "learning_rate": (1e-8, 10.0),
    "table_learning_rate": (1e-8, 10.0),
    "precision": (0.0, 0.99),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str) -> None:
    least, most = RANGES[name]
    whole = type(least) is int
    make_configs({name: least})
    bad = [least - 1 if whole else math.nextafter(least, -1.0)]
    if most is not None:
        make_configs({name: most})
        bad.append(most + 1 if whole else math.nextafter(most, math.inf))
    if not whole:
        bad.append(math.nan)
    for value in bad:
        with pytest.raises(ConfigError, match=f"{name} is .*, expected"):
            make_configs({name: value})


@pytest.mark.parametrize("rate", [-1e-5, 10.5, math.nan])
def test_the_learning_rate_of_an_encoder_may_be_left_open_or_be_zero(rate: float) -> None:
    assert [TrainConfig(encoder_learning_rate=given).encoder_learning_rate for given in (None, 0.0)] == [
        None,
        0,
    ]
    with pytest.raises(ConfigError, match=r"encoder_learning_rate is .*, expected"):
        make_configs({"encoder_learning_rate": rate})


def test_every_number_has_a_range() -> None:
    numbers = {name for kind, name in EVERY if get_type_hints(kind)[name] in (int, float)}
    assert numbers == set(RANGES)


@pytest.mark.parametrize("decider", ["", "Words", "both"])
def test_what_decides_where_to_stop(decider: str) -> None:
    assert ModelConfig(stop_by="words").stop_by == "words"
    with pytest.raises(ConfigError, match=r"stop_by is .*, expected .*reading"):
        make_configs({"stop_by": decider})


@pytest.mark.parametrize("reader", ["", "KMIPS", "hard"])
def test_readers(reader: str) -> None:
    assert make_configs({"reader": "softmax"})[1].reader == "softmax"
    with pytest.raises(ConfigError, match="expected one of kmips, softmax"):
        make_configs({"reader": reader})


def test_configurations_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index": "tree"}, "there is no index 'tree', expected one of exact, cluster"),
        ({"index": "cluster:colour=3"}, "cluster has no setting 'colour'"),
        ({"strategy": "top-k:4"}, r"strategy top-k:4 needs an index of clusters, got ExactIndex"),
        ({"strategy": "sample-k:4", "index": "pca-tree"}, "needs an index of clusters, got PCATreeIndex"),
        ({"strategy": "top-k", "index": "cluster"}, "top-k has the number ''"),
        ({"index": "cluster", "reader": "softmax"}, "index is 'cluster' but reader is 'softmax'"),
        ({"strategy": "k-mips:4", "reader": "softmax"}, "strategy is 'k-mips:4' but reader is 'softmax'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "given", "sizes"),
    [
        (1, {}, (12, 12, 18)),
        (4096, {}, (12, 12, 18)),
        (4097, {}, (15, 16, 18)),
        (8192, {}, (15, 16, 18)),
        (8193, {}, (16, 16, 18)),
        (10**7, {}, (18, 16, 18)),
        (10**7, {"table_bits": 20}, (20, 16, 0)),
        (5, {"table_bits": 9, "word_bits": 10}, (9, 10, 0)),
        (5, {"count_bits": 13}, (12, 12, 13)),
    ],
)
def test_tables_are_as_large_as_the_names_need(
    names: int, given: dict[str, int], sizes: tuple[int, int, int]
) -> None:
    config = sized(ModelConfig(**given), names)  # type: ignore[arg-type]
    assert (config.table_bits, config.word_bits, config.count_bits) == sizes
    assert config.feature_bits == (sizes[2] or sizes[0])
    assert sized(config, 10**6) == config


def test_counts_are_at_least_as_many_as_rows() -> None:
    with pytest.raises(ConfigError, match="count_bits is 11, expected 12 to 26"):
        sized(ModelConfig(count_bits=11), 5)
