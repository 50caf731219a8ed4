"""Every setting of a model and its training, under the same names in a file and on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from hmn.errors import ConfigError, closest, expected_one_of

Config = TypeVar("Config", bound="DataConfig | ModelConfig | TrainConfig")

READERS = ("kmips", "softmax")
"""Names of the readers."""
EXACT = "exact"
"""Index that searches the memory by default."""
HASHED = "hashed"
"""Encoder that is trained from scratch, the default."""
MOST_CELLS = 2**31 - 1
"""Upper limit of cells that are read or shown."""
MOST_FEATURES = 2**16
"""Upper limit of the features of a block and of hidden units."""
SMALL_TABLE = 4096
"""Number of names up to which tables are small, unless their sizes are given."""
SMALL_BITS = 12
"""Size of small tables."""
MOST_TABLE_BITS = 18
"""Upper limit of the size of the table of names that is chosen by the number of names."""
MOST_WORD_BITS = 16
"""Size of the tables of words, unless they are small."""
MOST_HOPS = 16
"""Upper limit of hops."""
READING = "reading"
"""Way to decide whether a hop is the last: by what it read, and what is asked next."""
WORDS = "words"
"""Way to decide whether a hop is the last: by the words of the question. The default."""
ENCODER_LEARNING_RATE = 5e-5
"""Peak learning rate of a pretrained encoder that is trained further."""
BEST_CELLS = "k-mips"
"""Strategy that candidates come from by default."""


def setting(default: Any, help: str) -> Any:
    """A field of a configuration, with the help that the command line shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DataConfig:
    """Where facts and questions come from and where the model goes. Paths may be relative."""

    facts: str | None = setting(
        None,
        "Table of facts: TSV, CSV, JSON, Parquet, Excel or RDF; plain, .gz, .zst, .bz2, .xz; - for stdin.",
    )
    names: str | None = setting(None, "Names of the entities: rows of (entity, name).")
    questions: str | None = setting(
        None,
        "Training questions: rows of (subject, relation, object, question) or (question, answers). Several "
        "files have commas between them. Without any, questions are made from the table.",
    )
    valid: str | None = setting(
        None, "Held-out questions that decide when to stop and which epoch's model to keep."
    )
    out: str | None = setting(
        None, "Folder to write the trained model to. If not given: countries-model for countries.csv."
    )
    columns: str = setting(
        "subject,relation,object", "Names of the three columns in the header of the facts."
    )
    separator: str | None = setting(
        None, "Text between columns, for the text files that have it. That of others is recognised."
    )
    wide: bool | None = setting(
        None,
        "Each row of the facts is an entity, each column a relation. If not given: recognised by the header.",
    )
    subject: str | None = setting(
        None, "Column of a wide table that names the entities. If not given: the first that can."
    )
    sheet: str | None = setting(None, "Sheet of a spreadsheet that holds the facts.")
    language: str | None = setting(
        None, "Language of names and values in RDF, such as de. If not given: the one that most names have."
    )
    encoding: str | None = setting(
        None, "Encoding of the text files that are not UTF-8, such as windows-1252 or utf-16."
    )
    inverse: bool | None = setting(
        None,
        "Also let every relation be asked backwards, from object to subject. If not given: yes with several "
        "hops, otherwise no.",
    )
    skip_bad: bool = setting(False, "Skip bad lines and count them, instead of stopping at the first.")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices that are saved with a model."""

    reader: str = setting(
        "kmips", "Attention in training and reading: kmips (the k best cells) or softmax (all cells)."
    )
    k: int = setting(10, "Number of cells that kmips reads per question.")
    index: str = setting(
        EXACT,
        "Search structure of kmips: exact, cluster, hierarchy, wta-hash, pca-tree or faiss. Its settings may "
        "follow: cluster:num_clusters=1000,num_probes=8 or faiss:IVF1024,Flat. The setting that decides how "
        "far it searches, such as num_probes, is tuned if it is not given.",
    )
    strategy: str = setting(
        BEST_CELLS,
        "Cells that kmips trains on, which the questions of a step share: k-mips (the k best per question) "
        "or parts joined by +. For example, top-k:4+sample-k:4 takes the 4 best clusters per question and 4 "
        "drawn at random; rand-block:256 takes 256 consecutive cells.",
    )
    hops: int = setting(
        1,
        "Largest number of facts that follow one another in an answer: the objects of one are the subjects "
        "of the next. How many a question needs is learned.",
    )
    beam: int = setting(64, "Number of entities per question that a further hop starts from.")
    stop_by: str = setting(
        WORDS,
        "What decides whether a hop is the last: words (those of the question) or reading (the relation that "
        "was read, and the one that the question asks for next), which new phrasings mislead less.",
    )
    objects: bool = setting(
        False, "Put the object's name into the text of its cell, for questions that name the kind of answer."
    )
    splitting: str = setting(
        "auto",
        "How text is split into words: scripts (as each script needs, with signs and accents that break "
        "ties), scripts+chinese (traditional and simplified Chinese are one; needs OpenCC), letters (as in "
        "version 0.1), or auto (scripts+chinese if the names are Chinese and OpenCC is installed, otherwise "
        "scripts).",
    )
    encoder: str = setting(
        HASHED,
        "Encoder of questions: hashed (trained from scratch), minilm, or a sentence-transformers folder.",
    )
    table_bits: int = setting(
        0,
        "Size of the table that words and n-grams of names are hashed into: 2 to this power rows. 0: by the "
        "number of names, at most 18.",
    )
    count_bits: int = setting(
        0,
        "Size of the table that says in how many names a word or n-gram is: 2 to this power rows. 0: as "
        "table_bits, or 18 if that is 0 too.",
    )
    name_features: int = setting(192, "Features of the block that compares names.")
    relation_features: int = setting(
        64, "Features of the block that compares the question's phrasing with the relation."
    )
    meaning_features: int = setting(
        128, "Features of the block that compares question and cell by a pretrained encoder's vectors."
    )
    word_bits: int = setting(
        0,
        "Size of the table that the words of questions and relations are hashed into: 2 to this power rows. "
        "0: by the number of names, at most 16.",
    )
    word_features: int = setting(64, "Features of a word's vector, before it is read in context.")
    hidden: int = setting(128, "Hidden units per direction of the GRU that reads the question.")
    name_scale: float = setting(20.0, "Initial weight of the block of names.")
    dropout: float = setting(0.3, "Share of features dropped in training.")
    word_dropout: float = setting(0.15, "Share of words that are known only by their n-grams in training.")

    precision: float = setting(
        0.9,
        "Share of right ones among the answers that count as known, where half of the questions ask for what "
        "is not in the table. All others count as not in the table.",
    )

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        if self.reader not in READERS:
            raise ConfigError(f"reader is {self.reader!r}, {expected_one_of(self.reader, READERS)}")
        if self.stop_by not in (READING, WORDS):
            raise ConfigError(
                f"stop_by is {self.stop_by!r}, {expected_one_of(self.stop_by, (READING, WORDS))}"
            )
        _between(self, 1, MOST_CELLS, "k", "beam")
        _between(self, 1, MOST_HOPS, "hops")
        _between(self, 1, MOST_FEATURES, "name_features", "relation_features", "meaning_features")
        _between(self, 1, MOST_FEATURES, "word_features", "hidden")
        if (self.index, self.strategy) != (EXACT, BEST_CELLS):
            self._check_search()
        for name in ("table_bits", "word_bits", "count_bits"):
            if getattr(self, name):
                _between(self, 8, 26, name)
        if self.count_bits:
            _between(self, max(self.table_bits, self.word_bits), 26, "count_bits")
        _between(self, 0.0, 0.95, "dropout", "word_dropout")
        _between(self, 0.0, 0.99, "precision")
        _between(self, 0.01, 1000.0, "name_scale")

    @property
    def feature_bits(self) -> int:
        """Logarithm of the number of rows that words and n-grams are hashed into, before tables fold them."""
        return self.count_bits or self.table_bits

    @property
    def key_features(self) -> int:
        """Features of a key: those of its blocks."""
        meaning = 0 if self.encoder == HASHED else self.meaning_features
        return self.name_features + self.relation_features + meaning

    def _check_search(self) -> None:
        """Refuse an index or a strategy that cannot be made, and a pair that does not fit."""
        if self.reader == "softmax":
            name = "strategy" if self.index == EXACT else "index"
            raise ConfigError(
                f"{name} is {getattr(self, name)!r} but reader is 'softmax', which attends to all cells: "
                f"leave {name} out, or choose the reader kmips"
            )
        # imported here, so that the default settings are checked without loading PyTorch
        from hmn.index.registry import make_index
        from hmn.nn.candidates.strategy import Strategy, clustered

        index, strategy = make_index(self.index), Strategy.parse(self.strategy, self.k)
        if strategy.needs_clusters:
            clustered(strategy, index)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = setting(4, "Maximum number of passes over the questions.")
    patience: int = setting(3, "Number of epochs without a better validation figure that end training.")
    batch_size: int = setting(128, "Number of questions per step.")
    other_subject: float = setting(
        0.4, "Share of training questions that are asked about another subject with the same relation."
    )
    relation_words: float = setting(
        0.15, "Share of training questions that are replaced by the words of a random fact."
    )
    joined: float = setting(
        0.15,
        "With several hops, share of training questions that are asked about what another question asks for, "
        "instead of about their subject.",
    )
    made_questions: int | None = setting(
        None,
        "Number of questions that are made from the relations and names of the table. If not given: enough "
        "for the table (5,000 to 10,000) if there are fewer than 100 of your own per relation and 10,000 in "
        "all, otherwise none.",
    )
    question_language: str | None = setting(
        None,
        "Language of made questions: ar, de, el, en, es, fr, hi, it, ja, ko, nl, pl, pt, ru, th, tr, zh, or "
        "none for bare words. If not given, the words of the table show it.",
    )
    learning_rate: float = setting(
        2e-3,
        "Peak learning rate of Adam, reached after the warm-up. It then falls linearly, to 1 %.",
    )
    table_learning_rate: float = setting(1e-3, "Peak learning rate of the table of names.")
    encoder_learning_rate: float | None = setting(
        None,
        "Peak learning rate of a pretrained encoder; 0 leaves it as it is. If not given: 5e-5, or 0 if all "
        "questions are made from the table.",
    )
    importance_weights: bool = setting(
        False,
        "Weight the loss by how likely the strategy was to draw each cell, so that it estimates the loss "
        "over all cells.",
    )
    recall: float = setting(
        0.95,
        "Recall that an index is tuned to, unless its text says how far it searches: the share of the cells "
        "found by exact search that it finds, on training questions. An index that learns (hierarchy) is "
        "tuned on held-out questions instead, to find 99.5 % of the best cells that a search 4 times as wide "
        "finds. 0: do not tune.",
    )
    warmup: int = setting(50, "Number of steps until the peak learning rate.")
    renew_steps: int = setting(
        100,
        "Number of steps in which all keys of the memory's snapshot are encoded again: all at once, or a "
        "share every ten steps if the index follows training (hierarchy).",
    )
    checkpoint_seconds: float = setting(45.0, "Approximate seconds between checkpoints for --resume.")
    seed: int = setting(0, "Seed of all randomness. The same seed and number of threads give the same model.")
    threads: int = setting(0, "Number of threads; 0 for PyTorch's default.")

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        _at_least(self, 1, "epochs", "patience", "batch_size", "renew_steps")
        _at_least(self, 0, "warmup", "threads", "checkpoint_seconds")
        if self.made_questions is not None:
            _between(self, 0, MOST_CELLS, "made_questions")
        _between(self, 0, 2**63 - 1, "seed")
        _between(self, 0.0, 1.0, "other_subject", "relation_words", "joined", "recall")
        _between(self, 1e-8, 10.0, "learning_rate", "table_learning_rate")
        if self.encoder_learning_rate is not None:
            _between(self, 0.0, 10.0, "encoder_learning_rate")


def sized(config: ModelConfig, names: int) -> ModelConfig:
    """A configuration whose tables have a size, chosen by the number of names where none is given.

    A checkpoint holds 2,304 bytes per row of names by default, so small tables get few rows. Words and
    n-grams that share a row still differ in how rare they are, which is counted in a table of its own.
    """
    small = names <= SMALL_TABLE
    table = config.table_bits or (SMALL_BITS if small else min(MOST_TABLE_BITS, (4 * names - 1).bit_length()))
    word = config.word_bits or (SMALL_BITS if small else MOST_WORD_BITS)
    count = config.count_bits or (0 if config.table_bits else MOST_TABLE_BITS)
    return replace(config, table_bits=table, word_bits=word, count_bits=count)


def checked_k(k: object) -> int:
    """A number of answers or facts.

    Raises:
        ConfigError: It is not a whole number, or out of range.
    """
    if type(k) is bool or not isinstance(k, Integral) or not 1 <= int(k) <= MOST_CELLS:
        raise ConfigError(
            f"k is {k!r:.80}, expected a whole number from 1 to {MOST_CELLS}: the number of answers or facts"
        )
    return int(k)


def read_config(path: Path | str) -> dict[str, Any]:
    """Read settings from a TOML file: one flat table, with dashes or underscores in the names.

    Raises:
        ConfigError: The file is missing or not TOML, or a setting does not exist or has the wrong type.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file, expected a TOML file of settings: check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}: expected a readable TOML file of settings") from None
    settings = {name.replace("-", "_"): value for name, value in table.items()}
    if len(settings) < len(table):
        twice = [name for name in table if "-" in name and name.replace("-", "_") in table]
        raise ConfigError(f"{path}: {twice[0]} is given with a dash and with an underscore: keep one of them")
    try:
        make_configs(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings


def make_configs(settings: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, TrainConfig]:
    """Sort settings into the three configurations.

    Raises:
        ConfigError: A setting does not exist, has the wrong type, or is out of range.
    """
    known = {field.name for kind in (DataConfig, ModelConfig, TrainConfig) for field in fields(kind)}
    for name in settings:
        if name not in known:
            near = closest(name, sorted(known))
            hint = f"did you mean {near}?" if near else f"expected one of: {', '.join(sorted(known))}"
            raise ConfigError(f"there is no setting {name!r:.80}: {hint}")
    return _make(DataConfig, settings), _make(ModelConfig, settings), _make(TrainConfig, settings)


def settings_of(*configs: DataConfig | ModelConfig | TrainConfig) -> dict[str, Any]:
    """All settings of some configurations, by name."""
    return {name: value for config in configs for name, value in asdict(config).items()}


def _make(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Make one configuration from those settings that are its own, after a check of their types."""
    types = get_type_hints(kind)
    chosen = {field.name: settings[field.name] for field in fields(kind) if field.name in settings}
    for name, value in chosen.items():
        allowed = get_args(types[name]) or (types[name],)
        number = isinstance(value, Real) and not isinstance(value, bool)  # one of NumPy included
        if float in allowed and number and (not isinstance(value, int) or abs(value) < 1e300):
            chosen[name] = float(value)
        elif int in allowed and number and isinstance(value, Integral):
            chosen[name] = int(value)
        elif type(value) not in allowed:
            expected = " or ".join(type_.__name__ for type_ in allowed)
            raise ConfigError(f"{name} is {value!r:.80}, expected {expected}")
    return kind(**chosen)


def _at_least(config: object, minimum: int, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= minimum:  # in this form NaN is refused too
            raise ConfigError(f"{name} is {getattr(config, name)}, expected at least {minimum}")


def _between(config: object, minimum: float, maximum: float, *names: str) -> None:
    for name in names:
        if not minimum <= getattr(config, name) <= maximum:
            raise ConfigError(f"{name} is {getattr(config, name)}, expected {minimum} to {maximum}")
