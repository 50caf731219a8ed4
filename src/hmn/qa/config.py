"""Every setting of a model and of its training; the same names in a config file and on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from hmn.errors import ConfigError

Config = TypeVar("Config", bound="DataConfig | ModelConfig | TrainConfig")

READERS = ("kmips", "softmax")
EXACT, BEST_CELLS = "exact", "k-mips"
"""How the memory is searched, and where candidates come from, unless it is said otherwise."""


def setting(default: Any, help: str) -> Any:
    """A field of a configuration with its explanation, which the command line shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DataConfig:
    """Where facts and questions come from and the model goes; a path is relative to the working folder."""

    facts: str | None = setting(None, "Table of facts: TSV, CSV, JSON lines or Parquet; plain, .gz or .zst.")
    names: str | None = setting(None, "Names of the entities: (entity, name) rows.")
    questions: str | None = setting(
        None, "Training questions: (subject, relation, object, question) or (question, answers) rows."
    )
    valid: str | None = setting(None, "Held-out questions that decide when to stop and what to keep.")
    out: str | None = setting(None, "Folder that the trained model is written to.")
    columns: str = setting(
        "subject,relation,object", "The names of the three columns in the header of the facts."
    )
    separator: str | None = setting(
        None, "Character between columns where the file's suffix does not tell it."
    )
    inverse: bool = setting(False, "Every relation can also be asked backwards, from object to subject.")
    skip_bad: bool = setting(False, "Count bad lines and go on, in place of stopping at the first.")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices that a saved model keeps."""

    reader: str = setting(
        "kmips", "Attention in training and reading: kmips (the K best cells) or softmax (all cells)."
    )
    k: int = setting(10, "Cells that K-MIPS attention reads for each question.")
    index: str = setting(
        EXACT,
        "Search structure of kmips: exact, cluster, hierarchy, wta-hash, pca-tree or faiss, with settings "
        "if wanted: cluster:num_clusters=1000,num_probes=8; faiss:IVF1024,Flat. How far it looks is tuned "
        "where the text does not say it.",
    )
    strategy: str = setting(
        BEST_CELLS,
        "Cells that kmips trains on, for all questions of a step together: k-mips (the K best of each), or "
        "parts joined by +, as in top-k:4+sample-k:4 (whole clusters: the best, and some drawn) and "
        "rand-block:256 (cells in a row).",
    )
    objects: bool = setting(
        False, "Cells have the object's name in their text too, for questions that name the answer's kind."
    )
    encoder: str = setting(
        "hashed",
        "Reads the question: hashed (trained from scratch), minilm, or a sentence-transformers directory.",
    )
    table_bits: int = setting(18, "Names' words and n-grams are hashed into a table of 2 to this power rows.")
    name_features: int = setting(192, "Features of the block in which names meet.")
    relation_features: int = setting(64, "Features of the block in which phrasing meets relation.")
    meaning_features: int = setting(
        128, "Features of the block in which a pretrained encoder's reading of question and cell meet."
    )
    word_bits: int = setting(16, "Words in context are hashed into a table of 2 to this power rows.")
    word_features: int = setting(64, "Features of a word's vector in context.")
    hidden: int = setting(128, "Units of the GRU that reads the question, each way.")
    name_scale: float = setting(20.0, "Initial weight of the names' block.")
    dropout: float = setting(0.3, "Share of the features dropped in training.")
    word_dropout: float = setting(0.15, "Share of the words known by their n-grams alone in training.")

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.reader not in READERS:
            raise ConfigError(f"reader is {self.reader!r}, expected one of {', '.join(READERS)}")
        _at_least(self, 1, "k", "name_features", "relation_features", "meaning_features")
        if (self.index, self.strategy) != (EXACT, BEST_CELLS):
            self._check_search()
        _at_least(self, 1, "word_features", "hidden")
        _between(self, 8, 26, "table_bits", "word_bits")
        _between(self, 0.0, 0.95, "dropout", "word_dropout")
        _between(self, 0.01, 1000.0, "name_scale")

    def _check_search(self) -> None:
        """Refuse an index and a strategy that cannot be made or do not fit each other."""
        if self.reader == "softmax":
            name = "strategy" if self.index == EXACT else "index"
            raise ConfigError(
                f"{name} is {getattr(self, name)!r} but reader is 'softmax', which attends to all cells: "
                f"leave {name} out, or choose the reader kmips"
            )
        # with the default settings the command line answers without loading PyTorch
        from hmn.index.registry import make_index
        from hmn.nn.candidates.strategy import Strategy, clustered

        index, strategy = make_index(self.index), Strategy.parse(self.strategy, self.k)
        if strategy.needs_clusters:
            clustered(strategy, index)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = setting(4, "At most so many passes over the questions.")
    patience: int = setting(3, "Stop after so many epochs without a better validation figure.")
    batch_size: int = setting(128, "Questions a step.")
    other_subject: float = setting(
        0.4, "Share of the training questions that are asked of another subject with the same relation."
    )
    relation_words: float = setting(
        0.15, "Share of the training questions that are replaced by the words of any fact."
    )
    learning_rate: float = setting(
        2e-3, "Peak learning rate (Adam); falls to a hundredth over the epochs after a short warm-up."
    )
    table_learning_rate: float = setting(1e-3, "The same for the table of names.")
    encoder_learning_rate: float = setting(5e-5, "The same for a pretrained encoder.")
    importance_weights: bool = setting(
        False,
        "Correct the loss for how likely each cell was drawn by the strategy, so that it estimates the loss "
        "over all cells.",
    )
    recall: float = setting(
        0.95,
        "An index whose text does not say how far it looks finds this share of the cells that exact search "
        "finds, measured on training questions; one that learns (hierarchy) the best cell of 99.5 % of the "
        "held-out questions that a search four times as wide finds; 0 leaves it as it is.",
    )
    warmup: int = setting(50, "Steps until the peak learning rate.")
    renew_steps: int = setting(
        100,
        "All keys of the memory's snapshot are encoded again every so many steps; with an index that follows "
        "(hierarchy), as many in all, a share of them every ten steps.",
    )
    checkpoint_seconds: float = setting(45.0, "Save the state for --resume about this often.")
    seed: int = setting(0, "Seed of all randomness: same seed, same threads, same model.")
    threads: int = setting(0, "Threads to use; 0: as PyTorch has it.")

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _at_least(self, 1, "epochs", "patience", "batch_size", "renew_steps")
        _at_least(self, 0, "warmup", "threads", "checkpoint_seconds")
        _between(self, 0, 2**63 - 1, "seed")
        _between(self, 0.0, 1.0, "other_subject", "relation_words", "recall")
        _between(self, 1e-8, 10.0, "learning_rate", "table_learning_rate", "encoder_learning_rate")


def read_config(path: Path | str) -> dict[str, Any]:
    """Read settings from a TOML file: one flat table of the settings' names, dashes or underscores.

    Raises:
        ConfigError: the file is missing, not TOML, or has a setting that does not exist or of a wrong type.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}: expected a readable TOML file of settings") from None
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    if len(settings) < len(found):
        twice = [name for name in found if "-" in name and name.replace("-", "_") in found]
        raise ConfigError(f"{path}: {twice[0]} is given with a dash and with an underscore: keep one of them")
    try:
        make_configs(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings


def make_configs(settings: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, TrainConfig]:
    """Sort settings into the three configurations.

    Raises:
        ConfigError: a setting does not exist, has the wrong type, or is out of range.
    """
    known = {one.name for kind in (DataConfig, ModelConfig, TrainConfig) for one in fields(kind)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}, expected one of: {', '.join(sorted(known))}")
    return _make(DataConfig, settings), _make(ModelConfig, settings), _make(TrainConfig, settings)


def settings_of(*configs: DataConfig | ModelConfig | TrainConfig) -> dict[str, Any]:
    """All settings of configurations, by name."""
    return {name: value for config in configs for name, value in asdict(config).items()}


def _make(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    types = get_type_hints(kind)
    chosen = {field.name: settings[field.name] for field in fields(kind) if field.name in settings}
    for name, value in chosen.items():
        wanted = get_args(types[name]) or (types[name],)
        if float in wanted and type(value) is int:
            chosen[name] = float(value)
        elif type(value) not in wanted:
            expected = " or ".join(one.__name__ for one in wanted)
            raise ConfigError(f"{name} is {value!r}, expected {expected}")
    return kind(**chosen)


def _at_least(config: object, least: int, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= least:
            raise ConfigError(f"{name} is {getattr(config, name)}, expected at least {least}")


def _between(config: object, least: float, most: float, *names: str) -> None:
    for name in names:
        if not least <= getattr(config, name) <= most:
            raise ConfigError(f"{name} is {getattr(config, name)}, expected {least} to {most}")
