"""The folder of a saved model: what is written, and what is checked when it is read.

It is a bundle (see ``hmn.store.bundle``) with the settings, the weights, the keys of the memory, the index,
the facts, some training questions to tune another index with and, if there is one, the pretrained encoder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hmn.errors import BundleError, ConfigError, DataError, ShapeError
from hmn.facts.table import FactTable
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.weights import load_weights, weights_of
from hmn.qa.build import Network, build_network
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig, settings_of
from hmn.qa.encoders.pretrained import SentenceEncoder, remake_encoder
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

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
EXAMPLES_FILE = "examples.json"
"""Name of the file of training questions."""
ENCODER_FILE = "encoder.json"
"""Name of the file with a pretrained encoder's architecture."""
TOKENIZER_FILE = "tokenizer.json"
"""Name of the file with a pretrained encoder's tokenizer."""


def save_model(
    folder: Path | str,
    config: ModelConfig,
    facts: FactTable,
    network: Network,
    encoder: SentenceEncoder | None,
    examples: list[str],
) -> None:
    """Write a model as a bundle, completely or not at all. A bundle that exists is replaced.

    Raises:
        BundleError: The folder holds something else, or the disk refuses.
    """
    index = network.indexed.index
    with writing_bundle(folder) as bundle:
        write_json(bundle, CONFIG_FILE, {"kind": KIND, **settings_of(config)})
        write_tensors(bundle, WEIGHTS_FILE, weights_of(network))
        if encoder is not None:
            write_json(bundle, ENCODER_FILE, encoder.config)
            write_json(bundle, TOKENIZER_FILE, json.loads(encoder.tokenizer))
        write_tensors(bundle, KEYS_FILE, {"keys": network.memory.snapshot()})
        write_json(bundle, EXAMPLES_FILE, {"questions": examples})
        if index.has_structure:
            write_tensors(bundle, INDEX_FILE, index.state_dict(with_keys=False))
        facts.write(bundle)


class SavedModel:
    """A saved model, opened for reading.

    Args:
        folder: The bundle.

    Attributes:
        settings: Settings of the model, by name.

    Raises:
        BundleError: The bundle is missing, damaged, of a newer format, or not a question-answering model.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder, self._bundle = folder, BundleReader(folder)
        self.settings: dict[str, Any] = self._bundle.json(CONFIG_FILE)
        if self.settings.pop("kind", None) != KIND:
            raise BundleError(
                f"{folder}/{CONFIG_FILE}: not a question-answering model: train one with hmn train"
            )

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Report settings, facts and weights that do not fit as a damaged bundle."""
        try:
            yield
        except (ConfigError, DataError, ShapeError) as error:
            raise BundleError(f"{self._folder}: {error}: save the model again with this version") from None

    def facts(self) -> FactTable:
        """The table of facts."""
        return FactTable.load(self._bundle.file("facts.parquet").parent)

    def examples(self) -> list[str]:
        """Training questions that were kept; none in a model of an early version."""
        if not self._bundle.has(EXAMPLES_FILE):
            return []
        return [str(question) for question in self._bundle.json(EXAMPLES_FILE)["questions"]]

    def encoder(self, config: ModelConfig) -> SentenceEncoder | None:
        """The pretrained encoder, if the model has one; its weights come with the network's."""
        if config.encoder == "hashed":
            return None
        tokenizer = json.dumps(self._bundle.json(TOKENIZER_FILE))
        with torch.random.fork_rng(devices=[]):
            return remake_encoder(self._bundle.json(ENCODER_FILE), tokenizer)

    def network(
        self, config: ModelConfig, facts: FactTable, cells: Cells, encoder: SentenceEncoder | None
    ) -> Network:
        """The network with its weights; the keys of its memory and its index are not loaded yet."""
        # the saved weights replace the fresh ones, which therefore need no storage
        with torch.device("meta"):
            network = build_network(config, facts, cells, encoder, fresh=False)
        load_weights(network, self._bundle.tensors(WEIGHTS_FILE), assign=True)
        return network.eval()

    def load_keys(self, network: Network) -> None:
        """Load the keys of the memory.

        Raises:
            BundleError: The keys are missing, or are not as many as the cells.
        """
        memory, keys = network.memory, self._bundle.tensors(KEYS_FILE).get("keys")
        assert isinstance(memory, EncodedMemory)
        if keys is None or len(keys) != len(memory):
            raise BundleError(
                f"{self._folder}/{KEYS_FILE}: the keys do not fit the facts: save the model again"
            )
        memory.restore(keys)

    def load_index(self, network: Network, config: ModelConfig) -> None:
        """Load the index, after the keys. Exact search has no file; it is built on the keys.

        Raises:
            BundleError: What was saved does not fit the index that the configuration names.
        """
        if not network.indexed.index.has_structure:
            network.indexed.rebuild()
            return
        state = self._bundle.tensors(INDEX_FILE)
        try:
            network.indexed.load_index(state)
        except (ShapeError, ConfigError) as error:
            raise BundleError(
                f"{self._bundle.file(INDEX_FILE)}: not the structure of index {config.index!r} ({error}): "
                "give another index to search with, such as index='exact', or save the model again"
            ) from None
