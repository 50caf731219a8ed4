"""The folder of a saved model: what is written, and what is checked when it is read.

It is a bundle (see ``hmn.store.bundle``) with the settings, the weights, the keys of the memory, the index,
the facts, some training questions to tune another index with and, if there is one, the pretrained encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hmn.errors import BundleError, ConfigError, DataError, NonFiniteError, ShapeError
from hmn.facts.table import FACTS_FILE, NAMES_FILE, FactTable
from hmn.index.checks import check_keys
from hmn.index.storage.key_rows import KeyRows
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.over_ranks import is_remote
from hmn.nn.weights import FLOATS, load_weights
from hmn.qa.asking import make_judge
from hmn.qa.build import Network, build_network
from hmn.qa.cells import Cells
from hmn.qa.changes.settle import SettledModel, settled_model
from hmn.qa.config import HASHED, ModelConfig, make_configs, settings_of
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import SentenceEncoder, remake_encoder
from hmn.qa.encoders.saved_tables import packed_tables, unpacked_tables
from hmn.qa.encoders.tables import check_counts
from hmn.qa.known.judge import Judge
from hmn.qa.words.splitting import LETTERS
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle
from hmn.store.manifest import listed_files
from hmn.store.rows import packed_blocks, unpacked_blocks

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

KIND = "factoid-qa"
"""Kind of model that ``config.json`` names."""
CONFIG_FILE = "config.json"
"""Name of the file of settings."""
WEIGHTS_FILE = "model.safetensors"
"""Name of the file of weights."""
KEYS_FILE = "memory.safetensors"
"""Name of the file of the memory's keys."""
INDEX_FILE = "index.safetensors"
"""Name of the file of the index; exact search has none."""
CELLS_FILE = "cells.safetensors"
"""Name of the file of the cells, which could be laid out again from the facts, more slowly."""
EXAMPLES_FILE = "examples.json"
"""Name of the file of training questions."""
ENCODER_FILE = "encoder.json"
"""Name of the file with a pretrained encoder's architecture."""
ENCODER_WEIGHTS = "input_module.phrasing.pretrained."
"""Beginning of the names of a pretrained encoder's weights."""
KNOWN_FILE = "known.safetensors"
"""Name of the file of the judge of whether an answer is in the table; models of early versions have none."""
TOKENIZER_FILE = "tokenizer.json"
"""Name of the file with a pretrained encoder's tokenizer."""


def save_model(
    folder: Path | str,
    config: ModelConfig,
    facts: FactTable,
    network: Network,
    encoder: SentenceEncoder | None,
    examples: list[str],
    judge: Judge | None = None,
    on_sealed: Callable[[Path], None] | None = None,
) -> None:
    """Write a model as a bundle, completely or not at all. A bundle that exists is replaced.

    ``on_sealed`` is called with the complete new folder before it takes its place. Over several ranks all of
    them call it, rank 0 writes what one machine would, and the others wait.

    Raises:
        BundleError: The folder holds something else, or the disk refuses.
    """
    saved = settled_model(facts, network)

    def write() -> bytes:
        with writing_bundle(folder, on_sealed=on_sealed) as bundle:
            _write(bundle, config, network, saved, encoder, examples, judge)
        return b""

    ranks: Ranks | None = getattr(network.memory, "ranks", None)
    if ranks is None:
        write()
    else:
        ranks.from_first(write, "a model that is saved")


def _write(
    bundle: Path,
    config: ModelConfig,
    network: Network,
    saved: SettledModel,
    encoder: SentenceEncoder | None,
    examples: list[str],
    judge: Judge | None,
) -> None:
    write_json(bundle, CONFIG_FILE, {"kind": KIND, **settings_of(config)})
    write_tensors(bundle, WEIGHTS_FILE, packed_tables(network, saved.weights, half=True))
    if encoder is not None:
        write_json(bundle, ENCODER_FILE, encoder.config)
        write_json(bundle, TOKENIZER_FILE, json.loads(encoder.tokenizer))
    keys = packed_blocks(saved.keys, _blocks(network), half=True)
    write_tensors(bundle, KEYS_FILE, keys)
    if cells := saved.cells.packed():
        write_tensors(bundle, CELLS_FILE, cells)
    write_json(bundle, EXAMPLES_FILE, {"questions": examples})
    memory = network.memory
    structure = memory.structure_of(saved.keys) if is_remote(memory) else saved.structure  # type: ignore[attr-defined]
    if structure is not None:
        kept = unpacked_blocks(keys, _blocks(network), len(saved.keys), saved.keys.dtype)
        storage = getattr(network.indexed.index, "storage", None)
        write_tensors(bundle, INDEX_FILE, _state_of_keys(structure, kept, storage))
    if judge is not None:
        write_tensors(bundle, KNOWN_FILE, judge.head.state_dict())
    saved.facts.write(bundle)


class SavedModel:
    """A saved model, opened for reading.

    Args:
        folder: The bundle.
        ranks: Processes that all read it, if there are several.

    Attributes:
        settings: Settings of the model, by name.

    Raises:
        BundleError: The bundle is missing, damaged, of a newer format, or not a question-answering model.
        ConfigError: The bundle of another rank differs.
    """

    def __init__(self, folder: Path | str, ranks: Ranks | None = None) -> None:
        self._folder, self._bundle = folder, BundleReader(folder)
        if ranks is not None:
            files = listed_files(self._bundle.file(CONFIG_FILE).parent)
            ranks.check_same(json.dumps(files, sort_keys=True).encode(), "the saved model")
        self.settings: dict[str, Any] = self._bundle.json(CONFIG_FILE)
        if self.settings.pop("kind", None) != KIND:
            raise BundleError(
                f"{folder}/{CONFIG_FILE}: not a question-answering model: train one with hmn train"
            )
        self.settings.setdefault("splitting", LETTERS)  # models of version 0.1 had no choice
        with self.checked(CONFIG_FILE):
            make_configs(self.settings)

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        return self._bundle.tensors(WEIGHTS_FILE, finite=True)

    @contextmanager
    def checked(self, name: str) -> Iterator[None]:
        """Report content of the file ``name`` that does not fit as a damaged bundle."""
        try:
            yield
        except (ConfigError, DataError, NonFiniteError, ShapeError) as error:
            place = f"{self._folder}/{name}"
            text = str(error) if str(error).startswith(str(self._folder)) else f"{place}: {error}"
            raise BundleError(f"{text}: save the model again with this version") from None

    def facts(self) -> FactTable:
        """The table of facts."""
        folder = self._bundle.file(FACTS_FILE).parent
        self._bundle.file(NAMES_FILE)
        with self.checked(FACTS_FILE):
            table = FactTable.load(folder)
        for name in (FACTS_FILE, NAMES_FILE):
            self._bundle.file(name)  # the bytes that were read are those that were checked
        return table

    def cells(self, facts: FactTable) -> Cells | None:
        """The cells of the table; None in a model of an early version."""
        if not self._bundle.has(CELLS_FILE):
            return None
        with self.checked(CELLS_FILE):
            saved = self._bundle.tensors(CELLS_FILE)
            objects, splitting = self.settings.get("objects", False), self.settings["splitting"]
            return Cells.unpacked(saved, facts, objects=objects, splitting=splitting)

    def examples(self) -> list[str]:
        """Training questions that were kept; none in a model of an early version."""
        if not self._bundle.has(EXAMPLES_FILE):
            return []
        questions = self._bundle.json(EXAMPLES_FILE).get("questions")
        if not isinstance(questions, list) or not all(isinstance(question, str) for question in questions):
            raise BundleError(
                f"{self._folder}/{EXAMPLES_FILE}: questions is {questions!r:.80}, expected a list of texts: "
                "save the model again"
            )
        return questions

    def encoder(self, config: ModelConfig) -> SentenceEncoder | None:
        """The pretrained encoder, if the model has one; its weights come with the network's."""
        if config.encoder == HASHED:
            return None
        settings, tokenizer = self._bundle.json(ENCODER_FILE), json.dumps(self._bundle.json(TOKENIZER_FILE))
        shapes = {
            name.removeprefix(ENCODER_WEIGHTS): weight.shape
            for name, weight in self._weights.items()
            if name.startswith(ENCODER_WEIGHTS)
        }
        with torch.random.fork_rng(devices=[]), self.checked(ENCODER_FILE):
            return remake_encoder(settings, tokenizer, shapes)

    def network(
        self,
        config: ModelConfig,
        facts: FactTable,
        cells: Cells,
        encoder: SentenceEncoder | None,
        ranks: Ranks | None = None,
    ) -> Network:
        """The network with its weights; the keys of its memory and its index are not loaded yet."""
        # the saved weights replace the fresh ones, which therefore need no storage
        with torch.device("meta"):
            network = build_network(config, facts, cells, encoder, fresh=False, ranks=ranks)
        with self.checked(WEIGHTS_FILE):
            weights = unpacked_tables(network, self._weights, later=True)
            check_counts(weights)
            load_weights(network, weights, assign=True)
        return network.eval()

    def judge(self, network: Network, config: ModelConfig) -> Judge | None:
        """Judge of whether an answer is in the table; None in a model that did not learn to tell."""
        if not self._bundle.has(KNOWN_FILE):
            return None
        judge = make_judge(network, config.k)
        with self.checked(KNOWN_FILE):
            load_weights(judge.head, self._bundle.tensors(KNOWN_FILE, finite=True))
        return make_judge(network, config.k, judge.head)

    def load_keys(self, network: Network, config: ModelConfig) -> None:
        """Load the keys of the memory.

        Raises:
            BundleError: The keys are missing, not finite, or do not fit the cells and the configuration.
        """
        memory, saved = network.memory, self._bundle.tensors(KEYS_FILE)
        assert isinstance(memory, EncodedMemory)
        own: slice = getattr(memory, "own", slice(None))  # of several ranks, this one's cells
        keys = saved.get("keys")  # as version 0.1 wrote them
        if keys is None:
            kind = next(memory.parameters()).dtype
            with self.checked(KEYS_FILE):
                keys = unpacked_blocks(saved, _blocks(network), len(memory), kind, own)
        elif own != slice(None):
            keys = keys[own].clone()
        shape = (len(range(len(memory))[own]), config.key_features)
        if keys.shape != shape or keys.dtype not in FLOATS:
            raise BundleError(
                f"{self._folder}/{KEYS_FILE}: the keys are {tuple(keys.shape)} of {keys.dtype}, expected "
                f"{shape} floating-point numbers to fit the facts and the settings: save the model again"
            )
        with self.checked(KEYS_FILE):
            keys = check_keys(keys)
            memory.restore_own(keys)

    def load_index(self, network: Network, config: ModelConfig) -> None:
        """Load the index, after the keys. Exact search has no file; it is built on the keys.

        Raises:
            BundleError: What was saved does not fit the index that the configuration names.
        """
        if not network.indexed.index.has_structure or is_remote(network.memory):
            network.indexed.rebuild()
            return
        state = self._bundle.tensors(INDEX_FILE)
        try:
            network.indexed.load_index(state)
        except (
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # named ones are ValueErrors
            raise BundleError(
                f"{self._bundle.file(INDEX_FILE)}: not the structure of index {config.index!r} ({error}): "
                "give another index to search with, such as index='exact', or save the model again"
            ) from None


def _blocks(network: Network) -> dict[str, int]:
    """Features of the blocks of a network's keys, by name."""
    memory = network.memory
    assert isinstance(memory, EncodedMemory) and isinstance(memory.encoder, FactEncoder)
    return memory.encoder.blocks


def _state_of_keys(state: dict[str, Tensor], keys: Tensor, storage: torch.dtype | None) -> dict[str, Tensor]:
    """The state of an index with the checksum of keys ``(N, D)``, which saving may have rounded."""
    if "rows.checksum" not in state:
        return state
    state = {name: value.cpu() for name, value in state.items() if name != "rows.checksum"}
    by_row = keys[state["rows.cell"].clamp(min=0)] if "rows.cell" in state else keys
    checksum = KeyRows.from_state(state, by_row, storage).checksum()
    return {**state, "rows.checksum": torch.tensor(checksum, dtype=torch.int64)}
