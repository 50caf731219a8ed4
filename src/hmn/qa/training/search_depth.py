"""How far a model's index searches, if its text does not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import settings_in, with_setting
from hmn.index.tuning import Tuned, tune

if TYPE_CHECKING:
    from hmn.qa.factoid_qa import FactoidQA

WORTH_TRAINING_WITH = 0.25
"""Reads, as a share of the cells, above which training searches only as far as the index's text says."""
AGREED = 0.995
"""Share of questions for which an index that learns must find the best cell."""
WIDE = 4
"""Factor on the configured effort of the reference search, which takes the place of exact search."""
UNWATCHED = 1.75
"""Factor on the configured effort of an index that learns, if there are no questions to tune it on."""


class SearchDepth:
    """Tunes the effort of an index: just enough to find a given share of what exact search finds.

    An index that learns from the queries of training searches with the effort that it has learned during
    training. Afterwards it needs more, since training has moved just those queries close to their cells. So,
    for use, it is tuned on questions that training has not seen: to find the best cell for 99.5 % of them.

    So is an index that wants the best cells only (``HierarchicalIndex.wanted``), to find these.

    An index whose text gives the effort keeps it, and one without effort, such as exact search, is not tuned.

    Args:
        index: Index of the model.
        text: Its text, as ``make_index`` takes it.
        recall: Share of the k best cells of exact search to find; 0 does not tune.
        k: Number of cells that are read per question.
        queries: Encodes some questions with the present network: questions of training or, if ``learned``,
            others.
        learned: Whether the index learns from the queries of training.

    Attributes:
        text: Text of the index, with the effort as it was last tuned.
        effort: The present effort; None if it is as configured.
    """

    def __init__(
        self,
        index: Index,
        text: str,
        recall: float,
        k: int,
        queries: Callable[[], Tensor],
        *,
        learned: bool = False,
    ) -> None:
        self.index, self.text, self.learned = index, text, learned
        self._given, self._recall, self._k, self._queries = text, recall, k, queries
        self._configured: int | None = None
        self._tuned: Tuned | None = None
        self.effort: int | None = None

    def tune(self) -> None:
        """Tune the effort to the recall, on the present keys and queries. Call it after every build."""
        index = self._tunable()
        if index is None:
            return
        configured = self._note_configured(index)
        if self.learned or getattr(index, "wanted", None) is not None:
            self.effort = self._tune_widely(index, configured)
        else:
            self._tuned = tune(index, self._queries(), self._k, target_recall=self._recall, margin=0)
            self.effort = self._tuned.value
        self.text = with_setting(self._given, index, index.effort_name)

    def train(self) -> None:
        """Set the effort for training: as tuned if that is cheap enough, otherwise as configured."""
        index = self._tunable()
        too_dear = self._tuned is not None and self._tuned.reads > WORTH_TRAINING_WITH * len(self.index)
        if index is not None and self._configured is not None and (self.learned or too_dear):
            index.effort, self.effort = self._configured, None

    def restore(self, effort: int | None) -> None:
        """Set the effort as an interrupted run had it; None if it was as configured."""
        index = self._tunable()
        if index is not None:
            self._note_configured(index)
            if effort is not None:
                index.effort = self.effort = effort

    def _note_configured(self, index: Tunable) -> int:
        """The effort that the index had before it was tuned for the first time."""
        self._configured = index.effort if self._configured is None else self._configured
        return self._configured

    def _tune_widely(self, index: Tunable, configured: int) -> int:
        """Tune the effort to find nearly all that a far wider search finds."""
        query = self._queries()
        if not len(query):
            index.effort = round(UNWATCHED * configured)
            return index.effort
        index.effort = WIDE * configured
        wanted = getattr(index, "wanted", None) or 1
        best = index.search(query, wanted)
        return tune(index, query, wanted, target_recall=AGREED, best=best, margin=0).value

    def _tunable(self) -> Tunable | None:
        """The index, if its effort is to be tuned."""
        if not self._recall or not isinstance(self.index, Tunable) or not len(self.index):
            return None
        try:
            name = self.index.effort_name
        except ConfigError:  # such as a flat index of faiss, which searches everywhere
            return None
        return None if name in settings_in(self._given) else self.index


def depth_on(
    model: FactoidQA,
    index: Index,
    text: str,
    recall: float,
    questions: Sequence[str],
    *,
    learned: bool = False,
) -> SearchDepth:
    """What tunes an index of a model on these questions; see ``SearchDepth``."""

    def queries() -> Tensor:
        training = model.network.training
        encoded = model.encode(questions)
        model.network.train(training)
        return encoded

    return SearchDepth(index, text, recall, model.config.k, queries, learned=learned)
