"""How far a model's index looks, where its text does not say it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hmn.errors import ConfigError
from hmn.index.protocol import Index, Tunable
from hmn.index.registry import settings_in, with_setting
from hmn.index.tuning import Tuned, tune

WORTH_TRAINING_WITH = 0.25
"""Reads in shares of the cells; what reads more looks in training no further than its text says."""
AGREED = 0.995
"""Share of the questions whose best cell an index that learns must find."""
WIDE = 4
"""Times as far as its text says looks the search that tells it these cells: no exact one."""
UNWATCHED = 1.75
"""Times as far as its text says it looks where there are no questions to set it by."""


class Depth:
    """Sets how far an index looks: as far as finds a given share of what exact search finds.

    One that has learned from the questions of the training how far to look does so in training. Others need
    more, since training has brought just these to their cells: once trained, it looks as far as finds the
    best cell of 99.5 % of questions that training has not seen.

    An index whose text gives the setting keeps it, as does one that has none, such as exact search.

    Args:
        index: of the model.
        name: its text, as ``make_index`` takes it.
        recall: share of the k best cells of exact search to find; 0 leaves the index as it is.
        k: cells that a question reads.
        queries: some questions encoded by the network as it is: of the training, or if ``learned`` others.
        learned: the index learns from the questions of the training.

    Attributes:
        name: the index's text with the setting as it was last tuned.
        value: the setting as it is; None where it is as the text has it.
    """

    def __init__(
        self,
        index: Index,
        name: str,
        recall: float,
        k: int,
        queries: Callable[[], Tensor],
        *,
        learned: bool = False,
    ) -> None:
        self.index, self.name, self.learned = index, name, learned
        self._given, self._recall, self._k, self._queries = name, recall, k, queries
        self._before: int | None = None
        self._tuned: Tuned | None = None
        self.value: int | None = None

    def tune(self) -> None:
        """Look as far as the recall asks for on the keys and the queries as they are; after every build."""
        index = self._tunable()
        if index is None:
            return
        self._before = index.effort if self._before is None else self._before
        if self.learned:
            self.value = self._set_by_others(index, self._before)
        else:
            self._tuned = tune(index, self._queries(), self._k, target_recall=self._recall)
            self.value = self._tuned.value
        self.name = with_setting(self._given, index, index.effort_name)

    def train(self) -> None:
        """Look no further than is worth it in a step of training."""
        tuned = self._tuned
        if self.learned or (tuned is not None and tuned.reads > WORTH_TRAINING_WITH * len(self.index)):
            index = self._tunable()
            if index is not None and self._before is not None:
                index.effort = self._before
            self.value = None

    def restore(self, value: int | None) -> None:
        """Look as far as ``value`` says: that of another ``Depth``, of a run that goes on."""
        index = self._tunable()
        if index is not None:
            self._before = index.effort if self._before is None else self._before
            if value is not None:
                index.effort = value
                self.value = value

    def _set_by_others(self, index: Tunable, usual: int) -> int:
        """Look as far as finds nearly all that a far wider search finds."""
        query = self._queries()
        if not len(query):
            index.effort = round(UNWATCHED * usual)
            return index.effort
        index.effort = WIDE * usual
        best = index.search(query, 1)
        return tune(index, query, 1, target_recall=AGREED, best=best).value

    def _tunable(self) -> Tunable | None:
        """The index, if its effort is to be tuned."""
        if not self._recall or not isinstance(self.index, Tunable) or not len(self.index):
            return None
        try:
            setting = self.index.effort_name
        except ConfigError:  # such as a flat index of faiss, which looks everywhere
            return None
        return None if setting in settings_in(self._given) else self.index
