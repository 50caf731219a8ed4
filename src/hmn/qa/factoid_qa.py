"""Factoid question answering: a memory network over a table of facts, from training to answers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hmn.errors import BundleError, ConfigError, DataError, NotFittedError, ShapeError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.protocol import Clustered, Index, Teachable
from hmn.index.registry import make_index
from hmn.index.structures.exact import ExactIndex
from hmn.nn.candidates.search import StrategySearch
from hmn.nn.candidates.strategy import Strategy
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.indexed import IndexedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.parts import CellMemory
from hmn.nn.reader import KMIPSReader, SoftmaxReader
from hmn.nn.weights import load_weights, weights_of
from hmn.qa.answer import Answer, AnswerModule
from hmn.qa.cells import Cells
from hmn.qa.config import BEST_CELLS, ModelConfig, TrainConfig, make_configs, settings_of
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import PretrainedPhrasing, SentenceEncoder, open_encoder, remake_encoder
from hmn.qa.encoders.question import Phrasing, QuestionEncoder
from hmn.qa.encoders.tables import NameTable, WordTable
from hmn.qa.metrics import Evaluation, Outcome, evaluate
from hmn.qa.text import Texts, words
from hmn.qa.training.artificial_questions import ArtificialQuestions
from hmn.qa.training.progress_bar import Display
from hmn.qa.training.run_folder import Checkpoint, OnProgress, Run
from hmn.qa.training.search_depth import Depth
from hmn.qa.training.targets import Targets
from hmn.qa.training.trainer import Trainer
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle

ENCODER_FILE, TOKENIZER_FILE = "encoder.json", "tokenizer.json"
INDEX_FILE, EXAMPLES_FILE = "index.safetensors", "examples.json"
EXAMPLES, WATCHED = 512, 4096
"""Training questions that a model keeps, to tune another index with, and held-out ones that set its own."""
QUERIES_AT_A_TIME = 256

Network = MemoryNetwork[list[list[Answer]]]


class FactoidQA:
    """Answers questions from a table of facts, with the fact that supports each answer.

    >>> qa = FactoidQA(FactTable.read("facts.tsv", "names.tsv")).fit("train.tsv", valid="valid.tsv")
    >>> qa.ask("where was ada lovelace born?")[0].answers
    >>> qa.save_pretrained("model")

    Args:
        facts: the table, or the path of one.
        settings: settings of the model by name (``reader``, ``k``, … see ``ModelConfig``).

    Raises:
        ConfigError: a setting does not exist or is out of range.
        DataError: the table cannot be read.
    """

    def __init__(self, facts: FactTable | Path | str, **settings: Any) -> None:
        self.facts = facts if isinstance(facts, FactTable) else FactTable.read(facts)
        self._settings = settings
        self.config: ModelConfig = make_configs(settings)[1]
        self.cells = Cells.of(self.facts, objects=self.config.objects)
        self._network: Network | None = None
        self._sentence_encoder: SentenceEncoder | None = None
        self._examples: list[str] = []
        self.history: list[dict[str, Any]] = []

    @property
    def network(self) -> Network:
        """The memory network.

        Raises:
            NotFittedError: the model was not trained.
        """
        if self._network is None:
            raise NotFittedError("the model was not trained: call fit(questions) first, or from_pretrained")
        return self._network

    @property
    def memory(self) -> EncodedMemory:
        """The memory of the network."""
        memory = self.network.memory
        assert isinstance(memory, EncodedMemory)
        return memory

    @property
    def _encoder(self) -> FactEncoder:
        encoder = self.memory.encoder
        assert isinstance(encoder, FactEncoder)
        return encoder

    def fit(
        self,
        train: QuestionSet | Path | str,
        valid: QuestionSet | Path | str | None = None,
        *,
        out: Path | str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        quiet: bool = False,
        on_progress: OnProgress | None = None,
        **settings: Any,
    ) -> FactoidQA:
        """Train on questions, and keep the epoch that does best on the held-out ones.

        Args:
            train: questions with their facts or with their answers.
            valid: held-out questions; without them all epochs are trained and the last is kept.
            out: write the model here whenever it is the best so far; its checkpoints and its metrics log go
                to the folder ``<out>.run`` beside it.
            resume: go on from the checkpoint in ``<out>.run``, if there is one.
            overwrite: replace what a finished or interrupted run left at ``out``.
            quiet: show no progress.
            on_progress: Called after every step with the steps done and their total. The network is being
                trained at that moment and must not be changed.
            settings: settings of the training by name (``epochs``, ``seed``, … see ``TrainConfig``).

        Returns:
            The model itself.

        Raises:
            ConfigError: a setting is wrong; or ``out`` holds a model already, or a checkpoint of another run.
            DataError: questions cannot be read or do not fit the facts.
        """
        self.config = make_configs(self._settings)[1]  # before an index was tuned
        config = make_configs({**self._settings, **settings})[2]
        questions = self._questions(train)
        held_out = None if valid is None else self._questions(valid)
        run = Run(
            None if out is None else Path(out),
            settings={**settings_of(self.config, config)},
            data=_fingerprint(self.facts, questions, held_out),
            checkpoint_seconds=config.checkpoint_seconds,
            quiet=quiet,
        )
        checkpoint = run.prepare(resume=resume, overwrite=overwrite)
        if run.out is not None and run.finished:
            self._take(FactoidQA.from_pretrained(run.out))
            return self
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(config.threads or threads)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self._sentence_encoder = (
                    None if self.config.encoder == "hashed" else open_encoder(self.config.encoder)
                )
                self._network = self._build(
                    self._sentence_encoder, fresh=checkpoint is None, display=Display(quiet)
                )
                self._encoder.count_names()
                self._train(questions, held_out, config, run, checkpoint, on_progress)
        finally:
            torch.set_num_threads(threads)
        return self

    def _train(
        self,
        questions: QuestionSet,
        held_out: QuestionSet | None,
        config: TrainConfig,
        run: Run,
        checkpoint: Checkpoint | None,
        on_progress: OnProgress | None,
    ) -> None:
        relations = [self.facts.relation_text(number) for number in range(len(self.facts.relations))]
        texts = Texts([*questions.text, *self.cells.names, *relations], self.config.table_bits)
        artificial = ArtificialQuestions(
            questions,
            self.facts,
            self.cells,
            texts,
            other_subject=config.other_subject,
            relation_words=config.relation_words,
        )
        targets = Targets.of(questions, self.facts, self.cells)
        validate = None if held_out is None else self._validation(held_out)
        order = np.random.default_rng([config.seed, 3]).permutation(len(questions))
        self._examples = [questions.text[number] for number in order[:EXAMPLES]]
        index = self.network.reader.index
        learned, watched = isinstance(index, Teachable), self._examples
        if learned:
            watched = [] if held_out is None else list(held_out.text[:WATCHED])
        depth = self._depth(index, self.config.index, config.recall, watched, learned=learned)
        trainer = Trainer(self.network, questions, texts, targets, artificial, validate, config, depth)
        if checkpoint is not None:
            trainer.load(checkpoint.progress, checkpoint.tensors)
        best: dict[str, Tensor] = {}

        def keep() -> None:
            self.config = replace(self.config, index=depth.name)
            if run.out is not None:
                self.save_pretrained(run.out)
            else:
                best.update({name: value.clone() for name, value in weights_of(self.network).items()})
                best["snapshot"] = self.memory.snapshot().clone()

        with run.watching(keep, on_progress) as watcher:
            progress = trainer.run(watcher)
        self.history = progress.epochs
        if run.out is not None:
            self._take(FactoidQA.from_pretrained(run.out))
        else:
            if progress.best_epoch != len(progress.epochs):
                self.memory.restore(best.pop("snapshot"))
                load_weights(self.network, best)
                self.network.indexed.rebuild()
            trainer.query_log.teach()
            depth.tune()
            self.config = replace(self.config, index=depth.name)
        run.finish()

    def _depth(
        self, index: Index, name: str, recall: float, questions: Sequence[str], *, learned: bool = False
    ) -> Depth:
        """What sets how far an index looks, by these questions."""

        def queries() -> Tensor:
            training = self.network.training
            encoded = self.encode(questions)
            self.network.train(training)
            return encoded

        return Depth(index, name, recall, self.config.k, queries, learned=learned)

    def ask(self, question: str, k: int = 5) -> list[Answer]:
        """Answer a question.

        Args:
            question: in words.
            k: at most so many readings of it.

        Returns:
            Answers with probability and supporting facts, the best first.

        Raises:
            DataError: the question has no word in it.
            NotFittedError: the model was not trained.
        """
        return self.ask_all([question], k)[0]

    @torch.no_grad()
    def ask_all(self, questions: Sequence[str], k: int = 5) -> list[list[Answer]]:
        """Answer several questions at once; see ``ask``."""
        if k < 1:
            raise ConfigError(f"k is {k}, expected at least 1: ask for one answer or more")
        for question in questions:
            if not words(question):
                raise DataError(f"the question {question!r} has no word in it, expected a question in words")
        network = self.network.eval()
        texts = Texts(questions, self.config.table_bits)
        answers = network(texts.word_bags(np.arange(len(texts))), max(k, self.config.k))
        return [found[:k] for found in answers]

    @torch.no_grad()
    def evaluate(
        self,
        questions: QuestionSet | Path | str,
        k: int = 10,
        *,
        outcomes: list[Outcome] | None = None,
    ) -> Evaluation:
        """Answer questions whose answers are known and count.

        Args:
            questions: with their facts or with their answers.
            k: facts that ``recall_at_k`` looks at.
            outcomes: if given, how each question went is appended.

        Raises:
            DataError: questions cannot be read or do not fit the facts.
            NotFittedError: the model was not trained.
        """
        if k < 1:
            raise ConfigError(f"k is {k}, expected at least 1")
        network, asked = self.network.eval(), self._questions(questions)

        def encode(numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
            return self._queries([asked.text[number] for number in numbers])

        searcher = network.reader.searcher
        # exact search reads and finds the same for any k
        exact = searcher is network.indexed and isinstance(network.indexed.index, ExactIndex)
        read = None if exact else self.config.k
        return evaluate(encode, searcher, self.facts, self.cells, asked, k=k, read=read, outcomes=outcomes)

    @torch.no_grad()
    def encode(self, questions: Sequence[str]) -> Tensor:
        """Queries ``(Q, D)`` of questions.

        Raises:
            NotFittedError: the model was not trained.
        """
        self.network.eval()
        parts = [
            self._queries(questions[at : at + QUERIES_AT_A_TIME])
            for at in range(0, len(questions), QUERIES_AT_A_TIME)
        ]
        return torch.cat([*parts, self.memory.snapshot()[:0]])

    def use_index(
        self, index: str | None = None, strategy: str | None = None, *, recall: float | None = None
    ) -> FactoidQA:
        """Search the memory with another index from now on, which is built on its keys as they are.

        ``save_pretrained`` keeps the index, so a model can be trained with one and serve with another:

        >>> FactoidQA.from_pretrained("model").use_index("cluster").save_pretrained("fast")

        Args:
            index: as ``make_index`` takes it; the one that the model has if not given. Where the text does
                not say how far it looks, it is tuned to ``recall``, and ``config`` says it. Where the model
                was trained with a strategy that needs clusters and this has none, ``config`` says k-mips.
            strategy: read each question's candidates of this strategy, drawn for it alone and all scored, in
                place of the cells that the index finds best; ``k-mips`` or nothing for just these. It is
                not saved.
            recall: share of the cells of exact search that the index is to find, measured on training
                questions that the model keeps; ``TrainConfig.recall`` if not given, 0 to leave the index as
                its text has it.

        Returns:
            The model itself.

        Raises:
            ConfigError: there is no such index or strategy, a setting is out of its range, the strategy needs
                clusters and the index has none, or the reader is softmax, which reads all cells.
            MissingPackageError: the index needs a package that is not installed.
            NotFittedError: the model was not trained.
        """
        reader, keys = self.network.reader, self.memory.snapshot()
        if not isinstance(reader, KMIPSReader):
            raise ConfigError(
                "the model's reader is softmax, which reads all cells: "
                "train one with the reader kmips to read with an index or a strategy"
            )
        reading = None if strategy in {None, BEST_CELLS} else Strategy.parse(str(strategy), self.config.k)
        config, made = self.config, reader.index
        if index is not None:
            made = make_index(index)
            clusters = isinstance(made, Clustered) or not reader.strategy.needs_clusters
            wanted = make_configs({} if recall is None else {"recall": recall})[2].recall
            made.build(keys)
            depth = self._depth(made, index, wanted if self._examples else 0.0, self._examples)
            depth.tune()
            config = replace(config, index=depth.name, strategy=config.strategy if clusters else BEST_CELLS)
        indexed = self.network.indexed
        searcher = indexed if reading is None else StrategySearch(made, reading, keys)
        self.config, indexed.index, reader.searcher = config, made, searcher
        self._settings["index"] = config.index
        return self

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the model as a bundle, whole or not at all; a bundle that is there is replaced.

        Raises:
            BundleError: the folder holds something else, or the disk refuses.
            NotFittedError: the model was not trained.
        """
        network = self.network
        with writing_bundle(folder) as bundle:
            write_json(bundle, "config.json", {"kind": "factoid-qa", **settings_of(self.config)})
            write_tensors(bundle, "model.safetensors", weights_of(network))
            if self._sentence_encoder is not None:
                write_json(bundle, ENCODER_FILE, self._sentence_encoder.config)
                write_json(bundle, TOKENIZER_FILE, json.loads(self._sentence_encoder.tokenizer))
            write_tensors(bundle, "memory.safetensors", {"keys": self.memory.snapshot()})
            write_json(bundle, EXAMPLES_FILE, {"questions": self._examples})
            index = network.reader.index
            if not isinstance(index, ExactIndex):
                write_tensors(bundle, INDEX_FILE, index.state_dict(with_keys=False))
            self.facts.write(bundle)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, index: str | None = None, strategy: str | None = None
    ) -> FactoidQA:
        """Read what ``save_pretrained`` wrote.

        Args:
            folder: the bundle.
            index: search with this one; the bundle's own is not read then. See ``use_index``.
            strategy: see ``use_index``.

        Raises:
            BundleError: the bundle is missing, damaged, of a newer format, or not such a model.
            ConfigError, MissingPackageError: as ``use_index``.
        """
        bundle = BundleReader(folder)
        config = bundle.json("config.json")
        if config.pop("kind", None) != "factoid-qa":
            raise BundleError(
                f"{folder}/config.json: not a question-answering model: train one with hmn train"
            )
        try:
            facts = FactTable.load(bundle.file("facts.parquet").parent)
            model = cls(facts, **config)
            with torch.random.fork_rng(devices=[]):
                if model.config.encoder != "hashed":
                    made = bundle.json(ENCODER_FILE), json.dumps(bundle.json(TOKENIZER_FILE))
                    model._sentence_encoder = remake_encoder(*made)
            # without memory of its own, since the saved weights take the place of the fresh ones
            with torch.device("meta"):
                model._network = model._build(model._sentence_encoder, fresh=False)
            load_weights(model._network, bundle.tensors("model.safetensors"), assign=True)
        except (ConfigError, DataError, ShapeError) as error:
            raise BundleError(f"{folder}: {error}: save the model again with this version") from None
        keys = bundle.tensors("memory.safetensors").get("keys")
        if keys is None or len(keys) != len(model.cells):
            raise BundleError(f"{folder}/memory.safetensors: its keys are not those of the facts: save again")
        model.memory.restore(keys)
        model._network.eval()
        if bundle.has(EXAMPLES_FILE):
            model._examples = [str(one) for one in bundle.json(EXAMPLES_FILE)["questions"]]
        if index is None:
            model._load_index(bundle)
        if index is not None or strategy is not None:
            model.use_index(index, strategy)
        return model

    def _build(
        self, encoder: SentenceEncoder | None, *, fresh: bool = True, display: Display | None = None
    ) -> Network:
        """A network with fresh weights, drawn from PyTorch's random numbers, or awaiting saved ones."""
        config, relations = self.config, self.facts.relations
        phrasing: nn.Module = Phrasing(config)
        sentences = texts = None
        if encoder is not None:
            phrasing = pretrained = PretrainedPhrasing(encoder, config.word_features + 1, config.dropout)
            sentences = torch.zeros(len(relations), encoder.features)
            texts = torch.zeros(len(self.cells), encoder.features, dtype=torch.float16)
            if fresh:
                spelled = [self.facts.relation_text(relation) for relation in range(len(relations))]
                sentences = pretrained.eval().sentences(spelled)
                with (display or Display(quiet=True)).reading() as on_progress:
                    texts = pretrained.sentences(self.cells.texts(spelled), on_progress).half()
        table = NameTable(config.table_bits, config.name_features, sparse=config.reader != "softmax")
        words = WordTable(config)
        memory = EncodedMemory(FactEncoder(config, self.cells, relations, table, words, sentences, texts))
        with torch.device("cpu"):  # also where the weights are made without memory of their own
            indexed = IndexedMemory[CellMemory](memory, config.index)
        strategy = Strategy.parse(config.strategy, config.k)
        softmax = config.reader == "softmax"
        reader = SoftmaxReader(indexed) if softmax else KMIPSReader(indexed, config.k, strategy)
        questions = QuestionEncoder(config, table, words, phrasing)
        return MemoryNetwork(questions, indexed, reader, AnswerModule(self.facts, self.cells))

    def _queries(self, questions: Sequence[str]) -> Tensor:
        texts = Texts(questions, self.config.table_bits)
        query: Tensor = self.network.input_module(texts.word_bags(np.arange(len(texts))))
        return query

    def _load_index(self, bundle: BundleReader) -> None:
        """Let the reader search with the structure that was saved."""
        indexed = self.network.indexed
        if isinstance(indexed.index, ExactIndex):
            indexed.rebuild()
            return
        problem = f"{bundle.file(INDEX_FILE)}: not the structure of index {self.config.index!r}"
        state = bundle.tensors(INDEX_FILE)
        again = "give another index to search with, such as index='exact', or save the model again"
        try:
            indexed.load_index(state)
        except (ShapeError, ConfigError) as error:
            raise BundleError(f"{problem} ({error}): {again}") from None

    def _questions(self, questions: QuestionSet | Path | str) -> QuestionSet:
        if isinstance(questions, QuestionSet):
            return questions
        return QuestionSet.read(questions, self.facts)

    def _validation(self, held_out: QuestionSet) -> Callable[[], tuple[Evaluation, float]]:
        """Figures on held-out questions, and which decides: pairs, or answers if only they are known."""

        def validate() -> tuple[Evaluation, float]:
            found = self.evaluate(held_out)
            return found, found.answer_accuracy if found.pair_accuracy is None else found.pair_accuracy

        return validate

    def _take(self, other: FactoidQA) -> None:
        self._network, self._sentence_encoder = other.network, other._sentence_encoder
        self.config, self._examples = other.config, other._examples


def _fingerprint(facts: FactTable, *questions: QuestionSet | None) -> str:
    """A number that differs between different data, so that a run is not resumed on another table."""
    crc = zlib.crc32(facts.object.tobytes(), zlib.crc32(facts.subject.tobytes()))
    for asked in questions:
        if asked is not None:
            crc = zlib.crc32("\n".join(asked.text).encode("utf-8", "surrogatepass"), crc)
            crc = zlib.crc32(asked.answer.tobytes(), zlib.crc32(asked.cell.tobytes(), crc))
    return f"{crc:08x}"
