"""What ``FactoidQA.fit`` does once the network is built, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.protocol import Teachable
from hmn.nn.weights import load_weights, weights_of
from hmn.qa.asking import make_judge
from hmn.qa.config import TrainConfig
from hmn.qa.encoders.saved_tables import round_tables
from hmn.qa.hops.evaluate import evaluate_chains
from hmn.qa.hops.network import HopNetwork, reading
from hmn.qa.known.judge import Judge
from hmn.qa.metrics import Evaluation
from hmn.qa.text import Texts
from hmn.qa.training.artificial_questions import ArtificialQuestions
from hmn.qa.training.chain_trainer import ChainTrainer
from hmn.qa.training.run_folder import Checkpoint, OnProgress, Run
from hmn.qa.training.search_depth import SearchDepth, depth_on
from hmn.qa.training.targets import Targets
from hmn.qa.training.trainer import Trainer
from hmn.store.contents import fitting

if TYPE_CHECKING:
    from hmn.qa.factoid_qa import FactoidQA

EXAMPLES = 512
"""Number of training questions that a model keeps, to tune another index with."""
WATCHED = 4096
"""Number of held-out questions that an index which learns is tuned on."""


@contextmanager
def seeded(config: TrainConfig) -> Iterator[None]:
    """Train with the configured number of threads and seed, and restore both afterwards."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(config.threads or threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            yield
    finally:
        torch.set_num_threads(threads)


def fit(
    model: FactoidQA,
    questions: QuestionSet,
    held_out: QuestionSet | None,
    config: TrainConfig,
    run: Run,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
    plain: Sequence[str] = (),
) -> None:
    """Train a model whose network was just built, and leave it as it was in its best epoch.

    Args:
        model: The model.
        questions: Training questions.
        held_out: Questions that decide which epoch is best; without them it is the last.
        config: How to train.
        run: Folder and display of the run.
        checkpoint: State to continue from.
        on_progress: Called after every step with the steps done and their total.
        plain: Questions to be kept as examples, before some training questions.
    """
    model._examples = [*plain, *_examples(questions, config.seed)][:EXAMPLES]
    check_over_ranks(model)
    search_depth = _search_depth(model, held_out, config)
    trainer = _trainer(model, questions, held_out, config, search_depth)
    if checkpoint is not None:
        with fitting(f"{checkpoint.folder}: state.json or state.safetensors"):
            trainer.load(checkpoint.progress, checkpoint.tensors)
    best: dict[str, Tensor] = {}

    def keep() -> None:
        model.config = replace(model.config, index=search_depth.text)
        if run.out is not None:
            model.save_pretrained(run.out)
        else:
            best.update({name: value.clone() for name, value in weights_of(model.network).items()})
            best["snapshot"] = model.memory.snapshot().clone()

    with run.watching(keep, on_progress) as watcher:
        progress = trainer.run(watcher)
    model.history = progress.epochs
    if run.out is not None:
        model._take(type(model).from_pretrained(run.out, ranks=model.ranks))
    else:
        if progress.best_epoch != len(progress.epochs):
            model.memory.restore_own(best.pop("snapshot"))
            load_weights(model.network, best)
            model.network.indexed.rebuild()
        round_tables(model.network)
        trainer.query_log.teach()
        search_depth.tune()
        model.config = replace(model.config, index=search_depth.text)
    model.judge = _judge(model, questions, held_out, config.seed)
    if run.out is not None:
        model.save_pretrained(run.out)
    run.finish()


def check_over_ranks(model: FactoidQA) -> None:
    """Refuse an index that learns in training, where the cells lie on several ranks.

    Raises:
        ConfigError: The index is such a one.
    """
    if model.ranks is not None and isinstance(model.network.indexed.index, Teachable):
        raise ConfigError(
            f"index is {model.config.index!r}, which learns from the questions of training, expected exact "
            "or cluster over several ranks: give --index, or train on one machine"
        )


def _judge(model: FactoidQA, questions: QuestionSet, held_out: QuestionSet | None, seed: int) -> Judge | None:
    """Judge of whether an answer is in the table; None if there are too few questions to learn it from."""
    judge = make_judge(model.network.eval(), model.config.k)
    return judge if judge.learn(questions, held_out, seed) else None


def fingerprint(facts: FactTable, *questions: QuestionSet | None) -> str:
    """Checksum of facts and questions, so that a run is not resumed on other data."""
    crc = crc32(facts.object.tobytes(), crc32(facts.subject.tobytes()))
    for question_set in questions:
        if question_set is not None:
            crc = crc32("\n".join(question_set.text).encode("utf-8", "surrogatepass"), crc)
            crc = crc32(question_set.answer.tobytes(), crc32(question_set.cell.tobytes(), crc))
            if (question_set.topic >= 0).any():  # runs of before there were topics keep their checksum
                crc = crc32(question_set.topic.tobytes(), crc)
    return f"{crc:08x}"


def _examples(questions: QuestionSet, seed: int) -> list[str]:
    """Some training questions, drawn at random."""
    order = np.random.default_rng([seed, 3]).permutation(len(questions))
    return [questions.text[number] for number in order[:EXAMPLES]]


def _search_depth(model: FactoidQA, held_out: QuestionSet | None, config: TrainConfig) -> SearchDepth:
    """What tunes the index: on training questions, or on held-out ones if the index learns in training."""
    index = model.network.indexed.index
    learned, watched = isinstance(index, Teachable), model._examples
    if learned:
        watched = [] if held_out is None else list(held_out.text[:WATCHED])
    # the indexes of several ranks are not tuned: each would search as far as its own cells need
    recall = config.recall if model.ranks is None else 0.0
    return depth_on(model, index, model.config.index, recall, watched, learned=learned)


def _trainer(
    model: FactoidQA,
    questions: QuestionSet,
    held_out: QuestionSet | None,
    config: TrainConfig,
    search_depth: SearchDepth,
) -> Trainer:
    facts, cells = model.facts, model.cells
    relations = [facts.relation_text(number) for number in range(len(facts.relations))]
    texts = Texts([*questions.text, *cells.names, *relations], model.config.feature_bits, cells.splitting)
    artificial = ArtificialQuestions(
        questions,
        facts,
        cells,
        texts,
        other_subject=config.other_subject,
        relation_words=config.relation_words,
        joined=config.joined if model.config.hops > 1 else 0.0,
    )
    targets = Targets.of(questions, facts, cells)
    validate = None if held_out is None else _validation(model, held_out)
    if isinstance(model.network, HopNetwork):
        return ChainTrainer(
            model.network, questions, texts, targets, artificial, validate, config, search_depth
        )
    return Trainer(model.network, questions, texts, targets, artificial, validate, config, search_depth)


def _validation(model: FactoidQA, held_out: QuestionSet) -> Callable[[], tuple[Evaluation, float]]:
    """Figures on held-out questions, and the one that decides: pairs, or answers if only these are known."""

    network = model.network if isinstance(model.network, HopNetwork) else None

    def validate() -> tuple[Evaluation, float]:
        figures = model.evaluate(held_out) if network is None else _chains(network, model, held_out)
        decisive = figures.answer_accuracy if figures.pair_accuracy is None else figures.pair_accuracy
        return figures, decisive

    return validate


@torch.no_grad()
def _chains(network: HopNetwork, model: FactoidQA, held_out: QuestionSet) -> Evaluation:
    """Figures of a network of several hops, which look at all pairs of an entity, as training does."""
    read = reading(network, held_out, model.config, search=False)
    return evaluate_chains(read, network.output_module, held_out, k=10)
