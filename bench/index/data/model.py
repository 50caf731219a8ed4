"""The memory of a trained model, and questions that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.index.systems.base import Floats


def of_model(model: Path, questions: Path, queries: int) -> tuple[Floats, Floats, dict[str, Any]]:
    """(a) The memory of a model trained on SimpleQuestions, asked held-out questions."""
    import torch

    from hmn.facts.questions import QuestionSet
    from hmn.qa.factoid_qa import FactoidQA
    from hmn.qa.text import Texts

    qa = FactoidQA.from_pretrained(model)
    asked = QuestionSet.read(questions, qa.facts)
    chosen = np.random.default_rng(0).permutation(len(asked.text))[:queries]
    network, parts = qa.network.eval(), []
    with torch.no_grad():
        for part in np.array_split(chosen, max(1, len(chosen) // 64)):
            texts = Texts([asked.text[number] for number in part], qa.config.feature_bits, qa.cells.splitting)
            parts.append(network.input_module(texts.word_bags(np.arange(len(texts)))).numpy())
    keys = qa.memory.snapshot().float().contiguous().numpy()
    about = {
        "title": "main job's model",
        "about": "Keys of the main job's model trained on SimpleQuestions (make bench-qa), "
        "queries from valid.tsv, chosen at random",
        "seed": 0,
    }
    return keys, np.ascontiguousarray(np.concatenate(parts)), about
