"""One run in a process of its own, so that its peak memory is its own: ``python -m hmn.paper.runs.job JOB``.

The job says what to run; its result is written beside it, as ``JOB.result.json``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmn.errors import HMNError
from hmn.machine import machine
from hmn.paper.cells.fixed import at_size_one, cached_vectors, keys_of, one_per_fact
from hmn.paper.data import Data, Files
from hmn.paper.grid import BM25, TEXT, Row
from hmn.paper.network.experiment import Experiment
from hmn.paper.preset import Preset
from hmn.paper.process import follow_parent, keep_memory, peak_mib
from hmn.qa.cells import Cells
from hmn.store.atomic import write_atomically


@dataclass(frozen=True)
class Job:
    """What a child process is to do; without a row it only makes the cells."""

    files: Files
    preset: Preset
    seed: int
    device: str
    vectors: str
    """File of the TransE vectors, made if it does not exist."""
    row: Row | None = None
    folder: str | None = None
    """Folder that keeps the unfinished run."""
    network: str | None = None
    """Folder that keeps the finished network."""
    only_test: bool = False
    """Whether a finished network is only tested on the test questions, and nothing is trained."""

    def as_json(self) -> str:
        """The job as text for a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what ``as_json`` wrote."""
        settings = json.loads(text)
        row = None if settings["row"] is None else Row(**settings["row"])
        files, preset = Files(**settings["files"]), Preset.from_dict(settings["preset"])
        return cls(**{**settings, "files": files, "preset": preset, "row": row})


def run_job(job: Job) -> dict[str, Any]:
    """Do a job.

    Returns:
        Its figures, with the peak memory and the time of the whole process.

    Raises:
        HMNError: the data, a setting or a missing package stand in the way.
    """
    began = time.perf_counter()
    data = Data.read(job.files, job.preset)
    if job.row is not None and not job.row.network:
        figures = _other_system(job, job.row, data)
    else:
        keys, cells, figures = _cells(job, data)
        if job.row is not None:
            figures |= _network(job, job.row, data, keys, cells)
    return {
        "peak_mib": peak_mib(),
        "accelerator_peak_mib": _accelerator_mib(job.device),
        **figures,
        "process_seconds": time.perf_counter() - began,
        "machine": machine(job.device),
    }


def _cells(job: Job, data: Data) -> tuple[Tensor, Cells, dict[str, Any]]:
    """Keys ``(N, D)`` of a job's cells, the facts that they stand for, and how they were trained."""
    if job.row is not None and job.row.cells == TEXT:
        from hmn.paper.cells.text import text_cells

        return *text_cells(str(job.files.model), data), {}
    epochs = job.preset.transe.epochs

    def on_epoch(epoch: int, loss: float) -> None:
        if epoch % 10 == 0 or epoch == epochs:
            _log(f"TransE: epoch {epoch} of {epochs}, loss {loss:.4f}")

    vectors = cached_vectors(
        Path(job.vectors),
        data,
        job.preset,
        job.seed,
        device=job.device,
        more=job.files.transe_facts,
        on_epoch=on_epoch,
    )
    figures = {
        "transe_loss": [vectors.loss[0], vectors.loss[-1]],
        "transe_facts": "more" if job.files.transe_facts else "memory",
    }
    layout = "" if job.row is None else job.row.cells
    return keys_of(data.facts, vectors, layout), one_per_fact(data.facts), figures


def _network(job: Job, row: Row, data: Data, keys: Tensor, cells: Cells) -> dict[str, Any]:
    """A row that is the paper's network."""
    experiment = Experiment(
        row,
        job.preset,
        data,
        at_size_one(keys),
        cells,
        seed=job.seed,
        device=job.device,
        folder=_path(job.folder),
        network=_path(job.network),
        log=_log,
    )
    return experiment.test() if job.only_test else experiment.run()


def _other_system(job: Job, row: Row, data: Data) -> dict[str, Any]:
    """A row that is not the paper's network."""
    if row.reader == BM25:
        from hmn.paper.baselines.bm25 import run_bm25

        return run_bm25(data)
    from hmn.paper.baselines.sentence_run import run_sentences

    return run_sentences(
        row,
        job.preset,
        data,
        seed=job.seed,
        device=job.device,
        log=_log,
        folder=_path(job.folder),
        network=_path(job.network),
        only_test=job.only_test,
    )


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _accelerator_mib(device: str) -> float | None:
    return None if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20


def _log(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Do the job that the command line names; exit status 2 for a user's mistake, 130 for Ctrl-C."""
    follow_parent()
    keep_memory()
    file = Path(sys.argv[1])
    try:
        result = run_job(Job.from_json(file.read_text(encoding="utf-8")))
    except HMNError as error:
        print(f"error: {error}", file=sys.stderr)
        write_atomically(file.with_suffix(".error"), str(error).encode())
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    write_atomically(file.with_suffix(".result.json"), json.dumps(result).encode())


if __name__ == "__main__":
    main()
