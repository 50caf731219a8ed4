"""Factoid question answering: a memory network over a table of facts, from training to answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hmn.errors import DataError, NotFittedError
from hmn.facts.questions import QuestionFiles, QuestionSet
from hmn.facts.table import FactTable
from hmn.nn.memory.encoded import EncodedMemory
from hmn.qa.answer import Answers, Trace
from hmn.qa.asking import ask_all, evaluate_all, trace
from hmn.qa.build import Network, build_network
from hmn.qa.cells import Cells
from hmn.qa.changes import changes
from hmn.qa.changes.changes import FactChange, GivenFacts, GivenNames
from hmn.qa.changes.settle import settled_questions
from hmn.qa.config import HASHED, ModelConfig, make_configs, settings_of, sized
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import SentenceEncoder, open_encoder
from hmn.qa.known.judge import Judge
from hmn.qa.metrics import Evaluation, Outcome
from hmn.qa.saved_model import SavedModel, save_model
from hmn.qa.text import bags_of, checked_texts
from hmn.qa.use_index import index_of_ranks, use_hops, use_index
from hmn.qa.words.splitting import chosen_splitting
from hmn.store.atomic import resolved

if TYPE_CHECKING:  # a model that answers on one machine needs nothing of this
    from hmn.distributed.collectives import Ranks
    from hmn.qa.training.run_folder import OnProgress

QUERIES_AT_A_TIME = 256
"""Number of questions that are encoded together."""


class FactoidQA:
    """Answers questions from a table of facts, with the fact that supports each answer.

    >>> qa = FactoidQA(FactTable.read("facts.tsv", "names.tsv")).fit("train.tsv", valid="valid.tsv")
    >>> qa.ask("where was ada lovelace born?")[0].answers
    >>> qa.save_pretrained("model")

    Args:
        facts: The table, or the path of one.
        ranks: Processes that share out the cells. All of them must make the same calls.
        settings: Settings of the model by name, such as ``reader`` and ``k``; see ``ModelConfig``.

    Attributes:
        facts: The table.
        cells: The cells of the table.
        config: Settings of the model. After training, ``index`` says how far the index searches.
        history: Figures of each epoch of training.
        judge: Judge of whether an answer is in the table; None in a model that did not learn to tell.
        ranks: Processes that share out the cells; None if this is the only one.

    Raises:
        ConfigError: A setting does not exist or is out of range.
        DataError: The table cannot be read.
    """

    def __init__(self, facts: FactTable | Path | str, *, ranks: Ranks | None = None, **settings: Any) -> None:
        self._begin(facts if isinstance(facts, FactTable) else FactTable.read(facts), None, settings, ranks)

    def _begin(
        self, facts: FactTable, cells: Cells | None, settings: dict[str, Any], ranks: Ranks | None
    ) -> None:
        self.ranks = None if ranks is None or ranks.size == 1 else ranks
        config = make_configs(settings)[1]
        splitting = chosen_splitting(config.splitting, facts)
        self.facts, self._settings = facts, settings | {"splitting": splitting}
        self.cells = cells or Cells.of(facts, objects=config.objects, splitting=splitting)
        self.config: ModelConfig = sized(make_configs(self._settings)[1], len(self.cells.names))
        self.history: list[dict[str, Any]] = []
        self.judge: Judge | None = None
        self._network: Network | None = None
        self._sentence_encoder: SentenceEncoder | None = None
        self._examples: list[str] = []

    @property
    def examples(self) -> list[str]:
        """Some of the questions that the model was trained on, or that read like them, at most 512."""
        return list(self._examples)

    @property
    def network(self) -> Network:
        """The memory network.

        Raises:
            NotFittedError: The model was not trained.
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

    def fit(
        self,
        train: QuestionSet | QuestionFiles | None = None,
        valid: QuestionSet | QuestionFiles | None = None,
        *,
        out: Path | str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        quiet: bool = False,
        on_progress: OnProgress | None = None,
        **settings: Any,
    ) -> FactoidQA:
        """Train on questions, keep the epoch that does best on the held-out ones, and return the model.

        Args:
            train: Questions with their facts or with their answers; a set, a file or a list of files. Without
                them, or beside few, questions are made from the table; see ``TrainConfig.made_questions``.
            valid: Held-out questions. Without them all epochs are trained and the last is kept.
            out: Folder to which the model is written whenever it is the best so far. Its checkpoints and its
                log of metrics go to the folder ``<out>.run`` next to it.
            resume: Continue from the checkpoint in ``<out>.run``, if there is one.
            overwrite: Replace what a finished or interrupted run left at ``out``.
            quiet: Show no progress.
            on_progress: Called after every step with the steps done and their total; must change nothing.
            settings: Settings of the training by name, such as ``epochs`` and ``seed``; see ``TrainConfig``.

        Raises:
            ConfigError: A setting is wrong; or ``out`` already holds a model, or a checkpoint of another run.
            DataError: Questions cannot be read or do not fit the facts.
        """
        from hmn.qa.made_questions.mixing import training_questions
        from hmn.qa.training.fit import fingerprint, fit, seeded
        from hmn.qa.training.progress_bar import Display
        from hmn.qa.training.run_folder import Run

        config = make_configs({**self._settings, **settings})[2]
        given = None if train is None else self._questions(train).answerable()
        held_out = None if valid is None else self._questions(valid)
        facts, cells, given, held_out = settled_questions(self.facts, self.cells, given, held_out)
        lesson = training_questions(given, facts, config, self.config.hops)
        questions, config = lesson.questions, lesson.config
        self.config = sized(make_configs(self._settings)[1], len(cells.names))  # no index is tuned yet
        run = Run(
            None if out is None else resolved(out),
            settings=settings_of(self.config, config),
            data=fingerprint(facts, questions, held_out),
            checkpoint_seconds=config.checkpoint_seconds,
            quiet=quiet,
            ranks=self.ranks,
        )
        checkpoint = run.prepare(resume=resume, overwrite=overwrite)
        if run.out is not None and run.finished:
            self._take(FactoidQA.from_pretrained(run.out, ranks=self.ranks))
            return self
        display = Display(run.quiet)
        if lesson.made:
            display.log(lesson.made)
        with seeded(config):
            name = self.config.encoder
            self._sentence_encoder = None if name == HASHED else open_encoder(name)
            self.facts, self.cells = facts, cells
            self.judge = None  # an earlier one knows another network
            fresh, known = checkpoint is None, (facts, cells, self._sentence_encoder)
            self._network = build_network(self.config, *known, fresh=fresh, display=display, ranks=self.ranks)
            encoder = self.memory.encoder
            assert isinstance(encoder, FactEncoder)
            encoder.count_names()
            fit(self, questions, held_out, config, run, checkpoint, on_progress, lesson.plain)
        return self

    def ask(self, question: str, k: int = 5) -> Answers:
        """Answer a question.

        Args:
            question: The question in words.
            k: Maximum number of answers.

        Returns:
            Answers with probability and supporting facts, best first. ``known`` says whether the table holds
            the right one, as far as the model can tell.

        Raises:
            DataError: The question has no word in it.
            NotFittedError: The model was not trained.
        """
        return self.ask_all([question], k)[0]

    @torch.no_grad()
    def ask_all(self, questions: Iterable[str], k: int = 5) -> list[Answers]:
        """Answer several questions at once; see ``ask``."""
        return ask_all(self, questions, k)

    @torch.no_grad()
    def trace(self, question: str, k: int = 5) -> Trace:
        """Answer a question, and show what was read for it: groups entered, cells scored, weights.

        It takes several times as long as ``ask``, since all cells are laid out; see ``ask`` for the errors.
        """
        return trace(self, question, k)

    @torch.no_grad()
    def evaluate(
        self,
        questions: QuestionSet | QuestionFiles,
        k: int = 10,
        *,
        topics: bool = True,
        outcomes: list[Outcome] | None = None,
    ) -> Evaluation:
        """Answer questions whose answers are known and compute figures.

        Args:
            questions: Questions with their facts or with their answers.
            k: Number of facts that ``recall_at_k`` looks at; of entities, with several hops.
            topics: With several hops, begin at the topics that questions name in brackets.
            outcomes: List to which the figures of each question are appended, if given.

        Raises:
            DataError: Questions cannot be read or do not fit the facts.
            NotFittedError: The model was not trained.
        """
        return evaluate_all(self, self._questions(questions), k, topics, outcomes)

    @torch.no_grad()
    def encode(self, questions: Iterable[str]) -> Tensor:
        """Queries ``(Q, D)`` of questions.

        Raises:
            DataError: A question is not a text.
            NotFittedError: The model was not trained.
        """
        self.network.eval()
        asked = checked_texts(questions)
        parts = [
            self._queries(asked[first : first + QUERIES_AT_A_TIME])
            for first in range(0, len(asked), QUERIES_AT_A_TIME)
        ]
        return torch.cat([*parts, self.memory.snapshot()[:0]])  # (Q, D), also for no questions

    def use_index(
        self, index: str | None = None, strategy: str | None = None, *, recall: float | None = None
    ) -> FactoidQA:
        """Search the memory with another index from now on. It is built on the present keys.

        ``save_pretrained`` keeps the index, so a model can be trained with one and serve with another:

        >>> FactoidQA.from_pretrained("model").use_index("cluster").save_pretrained("fast")

        Args:
            index: Text of the index, as ``make_index`` takes it; without it the model keeps its own. If the
                text does not say how far the index searches, this is tuned to ``recall`` and ``config``
                records it. If the model was trained with a strategy that needs clusters and the index has
                none, ``config`` records the strategy k-mips.
            strategy: Read the candidates that this strategy draws for each question, all scored in full,
                instead of the best cells that the index finds. ``k-mips`` or None reads the best cells. The
                strategy is not saved.
            recall: Share of the cells found by exact search that the index is to find, measured on training
                questions that the model keeps; 0 does not tune. ``TrainConfig.recall`` if not given.

        Returns:
            The model itself.

        Raises:
            ConfigError: The index or the strategy does not exist, a setting is out of range, the strategy
                needs clusters and the index has none, or the reader is softmax, which reads all cells.
            MissingPackageError: The index needs a package that is not installed.
            NotFittedError: The model was not trained.
        """
        use_index(self, index, strategy, recall)
        return self

    def use_hops(self, hops: int) -> FactoidQA:
        """Follow chains of at most ``hops`` facts from now on, perhaps more than in training.

        Raises:
            ConfigError: The number is 1 or out of range, or the model was trained with one hop.
        """
        use_hops(self, hops)
        return self

    def use_precision(self, precision: float) -> FactoidQA:
        """Say "not in the table" more often or less often from now on; see ``ModelConfig.precision``.

        Raises:
            ConfigError: The precision is out of range.
        """
        self.config = make_configs({**settings_of(self.config), "precision": precision})[1]
        self._settings["precision"] = precision
        return self

    def add_facts(self, facts: GivenFacts, names: GivenNames | None = None) -> FactChange:
        """Add facts, which are answered at once: no training, and a cost per fact that N does not change.

        New ids become entities and relations. A new relation is known by the words of its id. Facts that are
        there already change nothing. The inverses of the facts come along if the table has inverses.

        Args:
            facts: Rows of (subject, relation, object), a file of them, or a table.
            names: Lists of names by entity, or a file of names; they are put behind those an entity has.

        Raises:
            DataError: Facts or names cannot be read. Nothing is changed then.
            NotFittedError: The model was not trained.
        """
        return changes.add_facts(self, facts, names)

    def remove_facts(self, facts: GivenFacts, *, ignore_missing: bool = False) -> FactChange:
        """Remove facts, which are never answered again, and their inverses if the table has these.

        Args:
            facts: Rows of (subject, relation, object), a file of them, or a table.
            ignore_missing: Pass over facts that are not there.

        Raises:
            DataError: A fact is not there, or none would be left. Nothing is changed then.
            NotFittedError: The model was not trained.
        """
        return changes.remove_facts(self, facts, ignore_missing)

    def replace_facts(self, facts: GivenFacts, names: GivenNames | None = None) -> FactChange:
        """Give (subject, relation) pairs new objects: the given facts come, all others of their pairs go.

        See ``add_facts`` for the arguments and errors.
        """
        return changes.replace_facts(self, facts, names)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the model as a bundle, completely or not at all. A bundle that exists is replaced.

        Raises:
            BundleError: The folder holds something else, or the disk refuses.
            NotFittedError: The model was not trained.
        """
        save_model(
            folder, self.config, self.facts, self.network, self._sentence_encoder, self._examples, self.judge
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        *,
        index: str | None = None,
        strategy: str | None = None,
        ranks: Ranks | None = None,
    ) -> FactoidQA:
        """Read what ``save_pretrained`` wrote.

        Args:
            folder: The bundle.
            index: Index to search with. The bundle's own is then not read; see ``use_index``.
            strategy: Strategy to read with; see ``use_index``.
            ranks: Processes that share out the cells, each with an index of its own, which is not tuned.

        Raises:
            BundleError: The bundle is missing, damaged, of a newer format, or not such a model.
            ConfigError, MissingPackageError: See ``use_index``; or the bundles of ranks differ.
        """
        saved = SavedModel(folder, ranks)
        model, facts = cls.__new__(cls), saved.facts()
        model._begin(facts, saved.cells(facts), saved.settings, ranks)
        encoder = saved.encoder(model.config)
        index = index_of_ranks(model, index, strategy)
        network = saved.network(model.config, model.facts, model.cells, encoder, model.ranks)
        saved.load_keys(network, model.config)
        model._network, model._sentence_encoder, model._examples = network, encoder, saved.examples()
        model.judge = saved.judge(network, model.config)
        if index is None:
            saved.load_index(network, model.config)
        if index is not None or strategy is not None:
            model.use_index(index, strategy)
        return model

    def _queries(self, questions: Sequence[str]) -> Tensor:
        bags = bags_of(questions, self.config.feature_bits, self.cells.splitting)
        query: Tensor = self.network.input_module(bags)
        return query

    def _questions(self, questions: QuestionSet | QuestionFiles) -> QuestionSet:
        if not isinstance(questions, QuestionSet):
            return QuestionSet.read(questions, self.facts)
        if not questions.fits(self.facts):
            raise DataError(
                "the questions ask for facts that the model's table lacks, expected questions about its own "
                "facts: make them with QuestionSet.read(path, qa.facts)"
            )
        return questions

    def _take(self, other: FactoidQA) -> None:
        """Take the network and the settings of another model."""
        self._network, self._sentence_encoder = other.network, other._sentence_encoder
        self.config, self._examples = other.config, other._examples
        self.facts, self.cells, self.judge = other.facts, other.cells, other.judge
