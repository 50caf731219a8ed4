"""What requests and responses look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from hmn.serve.find import MOST_FACTS

MOST_ANSWERS = 100
"""Upper limit of answers per question."""

Writes = Literal["on", "off", "token"]
"""Whether a client could write; "token" says that it needs another token for that."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""Text of a client: an id, a name, a relation or a question."""


class Strict(BaseModel):
    """A request, whose fields must all be known."""

    model_config = ConfigDict(extra="forbid")


class Ask(Strict):
    """Questions to be answered."""

    question: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="One question, or a list of them.", examples=["who wrote dune?"]
    )
    k: int = Field(
        5, strict=True, ge=1, le=MOST_ANSWERS, description="Maximum number of answers per question."
    )
    trace: bool = Field(
        False,
        strict=True,
        description="Show what was read for the answers. It takes longer, and one question at a time.",
    )


class FactShown(BaseModel):
    """A fact, with the names of its ends in words."""

    subject: str
    relation: str
    object: str
    subject_name: str
    relation_name: str
    object_name: str


class AnswerShown(BaseModel):
    """One answer: the objects of a subject and a relation."""

    answers: list[str] = Field(description="Names of the objects, at most 20.")
    probability: float = Field(description="How likely this is the right answer.")
    count: int = Field(description="Number of objects in all.")
    facts: list[FactShown] = Field(description="The supporting fact of each object.")
    chains: list[list[FactShown]] = Field([], description="Of several steps: the facts that lead there.")
    probabilities: list[float] = Field([], description="Of several steps, the share of each object.")


class TierShown(BaseModel):
    """One tier of groups that a search went through."""

    groups: int = Field(description="Number of groups in the tier.")
    scored: int = Field(description="Number of groups that were compared with the question.")
    entered: int = Field(description="Number of groups that were entered.")
    spans: list[tuple[int, int]] = Field(
        description="First cell and number of cells of what was entered; groups side by side are one span."
    )


class SearchShown(BaseModel):
    """What a search looked at. Cells have an order in which those of a group lie side by side."""

    queries: int
    cells: int = Field(description="Number of cells in the memory.")
    tiers: list[TierShown] = Field(description="The tiers of groups, from the top.")
    coded: int = Field(description="Number of cells that were compared by short codes.")
    scored: int = Field(description="Number of cells that were scored in full.")
    reads: float = Field(description="What was read, in units of one key in single precision.")
    places: list[int] = Field(description="Places of the cells that were found, best first.")


class AttendedShown(BaseModel):
    """A cell that was read."""

    fact: FactShown = Field(description="The fact that it stands for.")
    weight: float = Field(description="Its share of attention.")
    facts: int = Field(description="Number of facts that it stands for.")


class TraceShown(BaseModel):
    """What was read for a question."""

    index: str = Field(description="The index that was searched, with its settings.")
    searches: list[SearchShown] = Field(description="The searches; with several hops, one or more per hop.")
    attended: list[AttendedShown] = Field(description="The cells that were read, if there is one hop.")


class Result(BaseModel):
    """What was found for a question."""

    question: str
    known: bool | None = Field(description="Whether the table has the answer; null: cannot tell.")
    known_probability: float | None = Field(description="Probability that it is.")
    reads: float | None = Field(description="Reads of the memory and its index, in units of one key.")
    answers: list[AnswerShown] = Field(description="Answers, best first.")
    trace: TraceShown | None = Field(None, description="What was read, if it was asked for.")


class Asked(BaseModel):
    """Answers to all questions of a request, from one state of the table."""

    version: int = Field(description="Number of the last write that the answers take into account.")
    results: list[Result]


class Find(Strict):
    """What facts must have, and which page of them is wanted."""

    subject: Text | None = None
    relation: Text | None = None
    object: Text | None = None
    text: Text | None = None
    after: int | None = Field(None, ge=0, description="Where the page before ended.")
    limit: int = Field(50, ge=1, le=MOST_FACTS)


class NewFact(Strict):
    """A fact to be written."""

    subject: Text
    relation: Text
    object: Text


class Write(Strict):
    """Facts to be added, or to take the place of others."""

    facts: Annotated[list[NewFact], Field(min_length=1)] = Field(description="The facts.")
    names: dict[str, list[Text]] = Field({}, description="Names of entities, by their ids.")
    replace: bool = Field(
        False, strict=True, description="Remove all other facts of the same subjects and relations."
    )
    remove: list[NewFact] = Field(
        [], description="Facts that go at the same time; if one is not there, nothing is written."
    )


class Remove(Strict):
    """Facts to be removed."""

    facts: Annotated[list[NewFact], Field(min_length=1)] = Field(description="The facts.")
    ignore_missing: bool = Field(False, strict=True, description="Pass over facts that are not there.")


class Written(BaseModel):
    """What a write has done. It is durable."""

    version: int
    added: int
    removed: int
    unchanged: int
    repeated: bool = Field(description="Whether the key came before: nothing was done now.")


class Page(BaseModel):
    """A page of facts."""

    version: int
    facts: list[FactShown]
    next: int | None = Field(description="What to give as `after` for the next page; null on the last.")


class RelationShown(BaseModel):
    """A relation of the table."""

    relation: str
    relation_name: str = Field(description="How it reads.")
    facts: int = Field(description="Number of facts that have it.")


class About(BaseModel):
    """What is served."""

    version: int
    facts: int = Field(description="Number of facts, without inverses that the table made itself.")
    cells: int = Field(description="Number of cells in the memory.")
    relations: list[RelationShown] = Field(description="The relations, the most frequent ones first.")
    examples: list[str] = Field(description="Questions that the model was trained on.")
    index: str
    hops: int
    writes: Writes = Field(description="Whether this request could write, or needs another token.")
