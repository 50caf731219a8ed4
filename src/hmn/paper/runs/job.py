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

from hmn.errors import HMNError
from hmn.machine import machine
from hmn.paper.cells.fixed import at_size_one, cached_vectors, keys_of, one_a_fact
from hmn.paper.data import Data, Files
from hmn.paper.grid import BM25, TEXT, Row
from hmn.paper.network.experiment import Experiment
from hmn.paper.preset import Preset
from hmn.paper.process import follow_parent, keep_memory, peak_mib
from hmn.store.atomic import write_atomically


@dataclass(frozen=True)
class Job:
    """What a child process is to do; without a row only the cells are made."""

    files: Files
    preset: Preset
    seed: int
    device: str
    vectors: str
    """File of the TransE vectors, made if it is not there."""
    row: Row | None = None
    folder: str | None = None
    """Where the unfinished run is kept."""
    network: str | None = None
    """Where the finished network is kept."""
    only_test: bool = False
    """Whether a finished network is tested on the test questions, and nothing trained."""

    def as_json(self) -> str:
        """The job as a file has it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Take back what ``as_json`` gave."""
        told = json.loads(text)
        row = None if told["row"] is None else Row(**told["row"])
        files, preset = Files(**told["files"]), Preset.from_dict(told["preset"])
        return cls(**{**told, "files": files, "preset": preset, "row": row})


def run_job(job: Job) -> dict[str, Any]:
    """Do a job; gives its figures, with the peak memory and the time of the whole process.

    Raises:
        HMNError: the data, a setting or a missing package stand in the way.
    """
    began = time.perf_counter()
    data = Data.read(job.files, job.preset)
    figures: dict[str, Any] = {}
    if job.row is not None and not job.row.network:
        return _with_machine(_other_system(job, job.row, data), job, began)
    if job.row is not None and job.row.cells == TEXT:
        from hmn.paper.cells.text import text_cells

        keys, cells = text_cells(str(job.files.model), data)
    else:

        def told(epoch: int, loss: float) -> None:
            if epoch % 10 == 0 or epoch == job.preset.transe.epochs:
                _say(f"TransE: epoch {epoch} of {job.preset.transe.epochs}, loss {loss:.4f}")

        vectors = cached_vectors(
            Path(job.vectors),
            data,
            job.preset,
            job.seed,
            device=job.device,
            more=job.files.transe_facts,
            told=told,
        )
        figures["transe_loss"] = [vectors.loss[0], vectors.loss[-1]]
        figures["transe_facts"] = "more" if job.files.transe_facts else "memory"
        layout = "" if job.row is None else job.row.cells
        keys, cells = keys_of(data.facts, vectors, layout), one_a_fact(data.facts)
        del vectors  # its tables are not the run's memory
    if job.row is not None:
        folder = None if job.folder is None else Path(job.folder)
        experiment = Experiment(
            job.row,
            job.preset,
            data,
            at_size_one(keys),
            cells,
            seed=job.seed,
            device=job.device,
            folder=folder,
            network=None if job.network is None else Path(job.network),
            told=_say,
        )
        figures |= experiment.test() if job.only_test else experiment.run()
    return _with_machine(figures, job, began)


def _other_system(job: Job, row: Row, data: Data) -> dict[str, Any]:
    """A row that is not the paper's network."""
    if row.reader == BM25:
        from hmn.paper.baselines.bm25 import run_bm25

        return run_bm25(data)
    from hmn.paper.baselines.sentence_encoder import run_sentences

    return run_sentences(
        row,
        job.preset,
        data,
        seed=job.seed,
        device=job.device,
        told=_say,
        folder=None if job.folder is None else Path(job.folder),
        network=None if job.network is None else Path(job.network),
        only_test=job.only_test,
    )


def _with_machine(figures: dict[str, Any], job: Job, began: float) -> dict[str, Any]:
    return {
        "peak_mib": peak_mib(),
        "accelerator_peak_mib": _accelerator_mib(job.device),
        **figures,
        "process_seconds": time.perf_counter() - began,
        "machine": machine(job.device),
    }


def _accelerator_mib(device: str) -> float | None:
    return None if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Do the job that the command names; status 2 and a line for a user's mistake, 130 for Ctrl-C."""
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
