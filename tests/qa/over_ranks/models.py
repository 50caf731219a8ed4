"""What each rank does with a model whose cells are divided: it trains, asks, evaluates and saves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.qa.small import CLUSTER, SIZES, TRAINING

from hmn.distributed import Ranks
from hmn.errors import ConfigError, ReadOnlyError
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.known import head

KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "cluster": {"index": "cluster:num_clusters=20,num_probes=20"},  # all of them: how cells are shared out
    "chains": {"hops": 2},
}
"""Settings of the models."""
JUDGE_STEPS = 50
"""Steps in which the judge learns, which would take longer than all else."""
QUIET = {"dropout": 0.0, "word_dropout": 0.0}
"""Settings without which encoders draw random numbers, each rank for its own cells."""


def trained(folder: Path, kind: str, ranks: Ranks | None = None, **training: Any) -> FactoidQA:
    """A model of the small table."""
    qa = FactoidQA(folder / "facts.tsv", ranks=ranks, **SIZES, **QUIET, **KINDS[kind])
    settings = {**TRAINING, "epochs": 2, **training}
    with patch.object(head, "STEPS", JUDGE_STEPS):
        return qa.fit(folder / "train.tsv", folder / "valid.tsv", quiet=True, **settings)


def asked(qa: FactoidQA, folder: Path) -> dict[str, Any]:
    """What a model answers, and its figures."""
    lines = (folder / "valid.tsv").read_text(encoding="utf-8").splitlines()
    questions = [line.split("\t")[3] for line in lines[:20]]
    figures = qa.evaluate(folder / "valid.tsv").as_dict()
    del figures["queries_per_second"]
    return {"answers": [one.as_dict() for one in qa.ask_all(questions)], "figures": figures}


def everything(_: int, size: int, folder: Path) -> dict[str, Any]:
    """Models of each kind: their training, what they answer, and the folders that they are saved in."""
    ranks, got = Ranks(timeout=120), {}
    for kind in KINDS:
        qa = trained(folder, kind, ranks)
        cells = torch.tensor([len(qa.cells) - 1, 0, 7])
        out = folder / f"{kind}-{size}"
        qa.save_pretrained(out)
        loaded = FactoidQA.from_pretrained(out, ranks=ranks)
        got[kind] = {
            "history": qa.history,
            "own": len(qa.memory.snapshot()),
            "rows": qa.memory.snapshot_of(cells),
            "weights": {name: weight.detach() for name, weight in qa.network.named_parameters()},
            "asked": asked(qa, folder),
            "loaded": asked(loaded, folder),
        }
    got["refused"] = _refused(qa, folder, ranks)
    got["resumed"] = _resumed(folder, size, ranks)
    return got


def _refused(qa: FactoidQA, folder: Path, ranks: Ranks) -> list[str]:
    """What such a model cannot do says so, on every rank."""
    learning = FactoidQA(folder / "facts.tsv", ranks=ranks, **SIZES, index="hierarchy")
    calls = {
        "add": (ReadOnlyError, lambda: qa.add_facts([("a", "person/wrote", "b")])),
        "index": (ConfigError, lambda: qa.use_index(CLUSTER)),
        "learning": (ConfigError, lambda: learning.fit(folder / "train.tsv", quiet=True, **TRAINING)),
    }
    which = folder / f"{'chains' if ranks.rank == 1 else 'exact'}-{ranks.size}"
    calls |= {
        "another run": (ConfigError, lambda: trained(folder, "exact", ranks, seed=int(ranks.rank == 1))),
        "another model": (ConfigError, lambda: FactoidQA.from_pretrained(which, ranks=ranks)),
    }
    texts = []
    for error, call in calls.values():
        try:
            call()
        except error as refusal:
            texts.append(str(refusal))
    return texts


def _resumed(folder: Path, size: int, ranks: Ranks) -> list[dict[str, Any]]:
    """Figures of a run that was stopped in its first epoch and went on from its checkpoint."""
    out = folder / f"resumed-{size}"

    def stop(step: int, _: int) -> None:
        if step == 9:
            raise KeyboardInterrupt

    often = {"out": out, "checkpoint_seconds": 0.0}
    with suppress(KeyboardInterrupt):
        trained(folder, "exact", ranks, on_progress=stop, **often)
    return trained(folder, "exact", ranks, resume=True, **often).history
