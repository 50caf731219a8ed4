"""The model that is served: a bundle and the journal beside it, for many readers and many writers at once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from hmn.errors import DataError, HMNError, JournalError, RankError, ReadOnlyError
from hmn.facts.ids import is_text
from hmn.index.locking import ReadersWriterLock
from hmn.index.structures.screening import AFTER
from hmn.qa.answer import Answers, Trace
from hmn.qa.encoders.kept_table import restore_tables
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.over_ranks.lead import Lead
from hmn.serve.find import Page, find_facts
from hmn.serve.journal import Entry, Journal, Written, fingerprint, journal_path, key_reused
from hmn.serve.writes.lock import ServeLock
from hmn.serve.writes.net_change import NetChange
from hmn.serve.writes.operations import Operation, checked, packed
from hmn.serve.writes.together import Together
from hmn.store.atomic import resolved
from hmn.store.bundle import BundleReader
from hmn.store.manifest import is_bundle
from hmn.store.replace import find_bundle, recover

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

LONGEST_KEY = 200
"""Upper limit of the characters of an idempotency key."""


class Request(NamedTuple):
    """A write that waits for its turn."""

    operations: list[Operation]
    packed: str
    key: str | None


class ServedModel:
    """A trained model whose facts change while it answers.

    >>> with ServedModel.open("model") as served:
    ...     served.write([{"add": [["q1", "person/wrote", "notes"]], "names": {"q1": ["Ada Lovelace"]}}])
    ...     version, answers = served.ask(["what did ada lovelace write?"])

    Any number of threads may call it. A write is on disk when ``write`` returns, and every answer is given
    from the table of one version: that of all writes up to its number, and of no other. The folder of the
    bundle is never changed; the journal lies beside it.

    Args:
        folder: The bundle.
        index: See ``FactoidQA.from_pretrained``.
        strategy: See ``FactoidQA.from_pretrained``.
        ranks: Processes that share out the cells, of which this is rank 0; facts cannot be changed then. The
            others load the model as well, and call ``hmn.qa.over_ranks.lead.follow``.

    Attributes:
        folder: The bundle.
        read_only: Whether facts cannot be changed.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        index: str | None = None,
        strategy: str | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder, self.read_only = checked_bundle(folder), ranks is not None
        self._options: dict[str, Any] = {"index": index, "strategy": strategy, "ranks": ranks}
        self._lock = ReadersWriterLock()
        self._failure = ""
        self._serving = ServeLock(self.folder)
        try:
            self._journal, self._model = open_both(self.folder, **self._options)
        except BaseException:
            self._serving.close()
            raise
        self._version = self._journal.version
        self._writer: Together[Request, Written] = Together(self._write_all)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        index: str | None = None,
        strategy: str | None = None,
        ranks: Ranks | None = None,
    ) -> ServedModel:
        """Load a bundle and the writes in its journal; the folder is this process's until ``close``.

        Raises:
            InUseError: Another process serves the folder; the message has its id.
            JournalError: The journal is damaged, or belongs to another bundle.
            BundleError, ConfigError, MissingPackageError: See ``FactoidQA.from_pretrained``.
        """
        return cls(folder, index=index, strategy=strategy, ranks=ranks)

    def __enter__(self) -> ServedModel:
        """The model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def version(self) -> int:
        """Number of the last write that answers take into account; 0 before the first."""
        return self._version

    @property
    def failure(self) -> RankError | None:
        """The error of another rank that has ended it, if there is one."""
        return self._model.failure if isinstance(self._model, Lead) else None

    def when_failed(self, call: Callable[[], object]) -> None:
        """Call something if another rank fails, after which nothing is answered any more."""
        if isinstance(self._model, Lead):
            self._model.on_failure = call

    @contextmanager
    def reading(self) -> Iterator[tuple[int, FactoidQA]]:
        """The version and its model, which does not change within the block: do not write there, nor keep it.

        Raises:
            JournalError: The model is closed, or could not follow its journal.
        """
        with self._lock.reading:
            if self._failure:
                raise JournalError(f"{self.folder}: {self._failure}")
            yield self._version, self._model

    def ask(self, texts: Iterable[str], k: int = 5) -> tuple[int, list[Answers]]:
        """Answer questions at once, all from the table of one version, which comes with them.

        Raises:
            DataError, NotFittedError: See ``FactoidQA.ask``.
            JournalError: See ``reading``.
        """
        with self.reading() as (version, model):
            return version, model.ask_all(texts, k)

    def trace(self, question: str, k: int = 5) -> tuple[int, Trace]:
        """Answer a question, and show what was read for it; see ``ask`` and ``FactoidQA.trace``."""
        with self.reading() as (version, model):
            return version, model.trace(question, k)

    def facts(
        self,
        *,
        subject: str | None = None,
        relation: str | None = None,
        object: str | None = None,
        text: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> Page:
        """Find facts, a page at a time; see ``find_facts``."""
        with self.reading() as (version, model):
            return find_facts(
                model.facts,
                subject=subject,
                relation=relation,
                object=object,
                text=text,
                after=after,
                limit=limit,
                version=version,
            )

    def write(self, operations: object, key: str | None = None) -> Written:
        """Change facts, all operations or none; when this returns, the change is on disk and in the answers.

        Args:
            operations: See ``hmn.serve.writes.operations.checked``.
            key: Idempotency key. The same write with the same key again gives the first result and changes
                nothing. Keys are remembered for seven days at least, across restarts too.

        Raises:
            DataError: The operations are bad, a fact to remove is not there, or none would be left.
            KeyReuseError: The key came before with another write.
            JournalError: The disk refuses the write, or the model is closed.
        """
        return self.submit(operations, key).result()

    def submit(self, operations: object, key: str | None = None) -> Future[Written]:
        """Hand in a write; the future has what ``write`` returns or raises.

        Raises:
            DataError: The operations are bad, or the key is no text of 1 to 200 characters.
            JournalError: The model is closed.
            ReadOnlyError: The cells lie on several ranks.
        """
        if self.read_only:
            raise ReadOnlyError(
                "the cells lie on several ranks, so facts cannot be changed, expected reading alone: "
                "serve the model from one machine to change them"
            )
        if key is not None and not (is_text(key) and len(key) <= LONGEST_KEY):
            raise DataError(f"key is {key!r:.80}, expected a text of 1 to {LONGEST_KEY} characters")
        found = checked(operations)
        try:
            return self._writer.submit(Request(found, packed(found), key))
        except RuntimeError:
            raise JournalError(f"{self.folder}: {self._failure or 'it is closed'}") from None

    def close(self) -> None:
        """Finish the writes that were handed in, wait for the readers, and give the folder back."""
        self._writer.close()
        with self._lock.writing:
            self._failure = self._failure or "it is closed, open it again"
        if isinstance(self._model, Lead):
            self._model.close()
        self._journal.close()
        self._serving.close()

    def _write_all(self, requests: Sequence[Request]) -> list[Written | Exception]:
        """Do several writes with one commit: check them, put them on disk, then change the model."""
        if self._failure:
            return [JournalError(f"{self.folder}: {self._failure}")] * len(requests)
        change = NetChange(self._model.facts)
        new: dict[int, Entry] = {}  # what goes into the journal, by its place among the requests
        first_with: dict[str, Entry] = {}  # by their keys
        results: list[Written | Exception] = []
        for place, request in enumerate(requests):
            try:
                written = self._repeated(request, first_with)
                if written is None:
                    done = change.take(request.operations)
                    written = Written(self._journal.version + len(new) + 1, *done)
                    new[place] = Entry(written, request.packed, request.key)
                    if request.key is not None:
                        first_with[request.key] = new[place]
                results.append(written)
            except HMNError as error:
                results.append(error)
        if new:
            try:
                self._journal.append(list(new.values()))
            except JournalError as error:
                failed = {entry.key for entry in new.values()} - {None}
                return [
                    error if place in new or requests[place].key in failed else result
                    for place, result in enumerate(results)
                ]
            self._follow(change)
        return results

    def _repeated(self, request: Request, first_with: dict[str, Entry]) -> Written | None:
        """What the write with the same key did, in an earlier group or in this one; None if there is none."""
        if request.key is None:
            return None
        if request.key not in first_with:
            return self._journal.recall(request.key, request.packed)
        first = first_with[request.key]
        if first.operations != request.packed:
            raise key_reused(request.key)
        return first.written._replace(repeated=True)

    def _follow(self, change: NetChange) -> None:
        """Let the model take what is in the journal now; should it fail, read both again."""
        with self._lock.writing:
            try:
                change.apply(self._model)
            except Exception:
                try:
                    self._model = loaded(self.folder, self._journal, **self._options)
                except Exception as error:
                    self._failure = f"the model could not follow its journal ({error}): open it again"
            self._version = self._journal.version


def checked_bundle(folder: Path | str) -> Path:
    """The whole path of a bundle; refuses what is none, before anything is made beside it."""
    path = resolved(folder)
    if not is_bundle(find_bundle(path)):
        BundleReader(path)  # says what is wrong
    return path


def open_both(folder: Path, **options: Any) -> tuple[Journal, FactoidQA]:
    """The journal and the model of a bundle whose lock is held."""
    recover(folder)
    journal = Journal(journal_path(folder), fingerprint(folder))
    try:
        return journal, loaded(folder, journal, **options)
    except BaseException:
        journal.close()
        raise


def loaded(folder: Path, journal: Journal, **options: Any) -> FactoidQA:
    """The model of a bundle with the writes of its journal.

    Raises:
        JournalError: The bundle was replaced meanwhile, or the journal is damaged.
    """
    with _no_collection():
        return _replayed(folder, journal, options)


def _replayed(folder: Path, journal: Journal, options: dict[str, Any]) -> FactoidQA:
    model = FactoidQA.from_pretrained(folder, **options)
    restore_tables(model.network)
    if fingerprint(folder) != journal.bundle:
        raise JournalError(f"{folder}: the bundle was replaced while it was read: open it again")
    writes = [operations for _, operations in journal.read()]
    ranks: Ranks | None = options.get("ranks")
    if ranks is not None:
        if writes:
            raise JournalError(
                f"{folder}: its journal has {len(writes)} writes, expected none over several ranks: "
                f"fold them in with hmn compact {folder}"
            )
        return cast("FactoidQA", Lead(model, ranks))
    change = NetChange(model.facts)
    change.look_up(fact for operations in writes for step in operations for fact in step.facts)
    for version, operations in enumerate(writes, journal.base + 1):
        try:
            change.take(operations)
        except DataError as error:
            raise JournalError(
                f"{journal.path}: write {version} does not fit the bundle ({error}): restore both from a copy"
            ) from None
    if writes:
        change.apply(model)
    else:
        # a fact that is there already: it changes nothing, but the first write need not prepare the table
        model.add_facts([model.facts.fact(0)[:3]])
    _prepare(model)
    return model


def _prepare(model: FactoidQA) -> None:
    """Search as often as it takes for exact search to make codes of its keys: nobody has to wait later."""
    keys = model.memory.snapshot()
    for queries in (AFTER, 1):  # the search after the first ones makes them
        model.network.indexed.search(keys[torch.arange(queries) % len(keys)], 1)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage within the block: of loading 100,000 writes, that would be a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
